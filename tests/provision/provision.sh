#!/bin/sh
# Prepares what tests and benchmarks need and the project does not carry:
#
#   provision.sh venv   PYTHON DIR      a virtual environment with Django and Flask
#   provision.sh peers  PYTHON DIR      the same with gunicorn and Granian in it
#   provision.sh libraries PYTHON DIR   the same with numpy, gevent, clients of databases and others
#   provision.sh uwsgi  PYTHON DIR      the same with uWSGI, compiled for PYTHON
#   provision.sh bjoern PYTHON DIR      the same with bjoern, compiled for PYTHON
#   provision.sh nginx  DIR             DIR/nginx: the machine's, or one for this project alone
#   provision.sh h2o    DIR             DIR/h2o: likewise
#   provision.sh pebble DIR             DIR/pebble: likewise
#   provision.sh pythons SUITE DIR VERSION...   DIR/python3.X: interpreters of another suite of Debian, unpacked
#   provision.sh debian PACKAGE...      packages of the system
#
# May run any number of times at once: a lock lets one work and the others wait, and what is
# there already costs some milliseconds. Quiet if all is well. Exit codes: 0 it is there, 1 an
# error, with its log, 2 usage, 3 this machine cannot have it ("skipped: WHAT because WHY").

set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
top=$here/../..
# Longest wait, in seconds, for another run that does the same: uWSGI compiles for a minute.
lock_wait=900

main() {
    case "${1-}" in
    venv | peers | uwsgi | bjoern | libraries)
        [ $# -eq 3 ] || usage
        require "$@"
        ;;
    nginx | h2o | pebble)
        [ $# -eq 2 ] || usage
        require_server "$1" "$2"
        ;;
    pythons)
        [ $# -ge 4 ] || usage
        shift
        require_pythons "$@"
        ;;
    debian)
        [ $# -ge 2 ] || usage
        shift
        debian "$@"
        ;;
    *) usage ;;
    esac
}

usage() {
    sed -n '3,11s/^# *//p' "$0" >&2
    exit 2
}

# Makes sure that the set of packages `$1`, made for interpreter `$2`, is in directory `$3`.
require() {
    set_name=$1 dir=$3
    python=$(command -v "$2") || fail "there is no interpreter $2"
    wanted=$(fingerprint "$set_name" "$python")
    is_there "$set_name" "$dir" "$wanted" && return

    lock "$dir"
    is_there "$set_name" "$dir" "$wanted" && return

    log=$dir.log
    : >"$log"
    base=$(fingerprint venv "$python")
    is_there venv "$dir" "$base" || {
        make_venv "$python" "$dir"
        stamp venv "$dir" "$base"
    }
    case "$set_name" in
    venv) ;;
    peers | libraries) logged pip_install "$dir" -r "$here/$set_name.txt" ;;
    uwsgi) compile uWSGI "$dir" ;;
    bjoern)
        [ -e /usr/include/ev.h ] || (debian libev-dev) || skip bjoern "libev's headers are missing"
        compile bjoern "$dir"
        ;;
    esac
    stamp "$set_name" "$dir" "$wanted"
    rm -f "$log"
}

# Waits until no other run works on directory `$1`.
lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1.lock"
    flock -w "$lock_wait" 9 || fail "another run holds $1.lock for over $lock_wait s"
}

# What a finished set depends on: the interpreter's file and the lists of packages.
fingerprint() {
    case "$1" in
    venv) lists= ;;
    *) lists=$here/$1.txt ;;
    esac
    {
        stat -L -c '%n %s %Y' "$2"
        cat "$0" "$here/requirements.txt" "$here/constraints.txt" \
            "$top/python/examples/requirements.txt" ${lists:+"$lists"}
    } | cksum
}

is_there() {
    stamp_file=$2/.provisioned-$1
    [ -r "$stamp_file" ] && read -r found <"$stamp_file" && [ "$found" = "$3" ]
}

stamp() {
    echo "$3" >"$2/.provisioned-$1"
}

make_venv() {
    if [ -e "$2" ]; then
        [ -e "$2/pyvenv.cfg" ] || fail "$2 is there and is no virtual environment"
        rm -rf "$2"
    fi
    if ! "$1" -c 'import ensurepip, venv' 2>>"$log"; then
        (debian python3-venv) || skip "a virtual environment of $1" "it has no venv module"
    fi
    logged "$1" -m venv "$2"
    logged pip_install "$2" -r "$here/requirements.txt"
}

# Compiles package `$1` into the environment `$2`.
compile() {
    for tool in gcc make; do
        command -v "$tool" >/dev/null || (debian gcc libc6-dev make) || skip "$1" "there is no $tool"
    done
    header=$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
    if [ ! -e "$header" ]; then
        case "$header" in
        /usr/include/*) (debian python3-dev) || skip "$1" "there is no $header" ;;
        *) skip "$1" "there is no $header" ;;
        esac
    fi
    # No cache: it would give a build for one interpreter to another of the same version.
    list=$here/$(echo "$1" | tr '[:upper:]' '[:lower:]').txt
    pip_install "$2" --no-cache-dir -r "$list" >>"$log" 2>&1 ||
        skip "$1" "it does not compile: $(grep -m 1 -i 'error' "$log" || echo "see $log")"
}

pip_install() {
    venv=$1
    shift
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
        "$venv/bin/python" -m pip install --quiet "$@" </dev/null
}

# Makes `$2/$1`, where `$1` is nginx, h2o or pebble. Where the machine has none, the packages of one are unpacked and not
# installed: that takes no rights, and no service of the system is set up or started.
require_server() {
    name=$1 dir=$2
    case $name in
    nginx) package=nginx-light version=-v ;;
    h2o) package=h2o version=--version ;;
    pebble) package=pebble version=-h ;;
    esac
    found=$(PATH=$PATH:/usr/local/sbin:/usr/sbin command -v "$name") || found=
    server_is_there && return
    lock "$dir"
    server_is_there && return
    if [ -n "$found" ]; then
        mkdir -p "$dir"
        ln -sfn "$found" "$dir/$name"
    else
        unpack_server
    fi
}

server_is_there() {
    if [ -n "$found" ]; then
        [ "$dir/$name" -ef "$found" ]
    else
        "$dir/$name" "$version" >/dev/null 2>&1
    fi
}

unpack_server() {
    command -v apt-get >/dev/null || skip "$name" "there is none, and this is no Debian system"
    rm -rf "$dir"
    mkdir -p "$dir/root" "$dir/cache/archives/partial" "$dir/lists/partial"
    log=$dir.log
    # With the lists of packages that the machine has, else with new ones of our own.
    set -- -o "Dir::Cache=$dir/cache" -o Debug::NoLocking=1
    download_server "$@" >"$log" 2>&1 || {
        set -- "$@" -o "Dir::State::lists=$dir/lists"
        { apt "$@" update && download_server "$@"; } >>"$log" 2>&1
    } || skip "$name" "there is none, and $(complaint "$log")"
    for archive in "$dir"/cache/archives/*.deb; do
        logged dpkg-deb --extract "$archive" "$dir/root"
    done
    program=$(find "$dir/root" -type f -path "*bin/$name")
    libraries=$(find "$dir/root" -type d -name '*-linux-gnu*' | paste -s -d :)
    printf "#!/bin/sh\nLD_LIBRARY_PATH='%s' exec '%s' \"\$@\"\n" "$libraries" "$program" >"$dir/$name"
    chmod +x "$dir/$name"
    rm -rf "$dir/cache" "$dir/lists"
    "$dir/$name" "$version" >/dev/null 2>>"$log" || skip "$name" "what was unpacked does not run: $(tail -n 1 "$log")"
    rm -f "$log"
}

# What the machine lacks of the server and of the libraries that it needs.
download_server() {
    apt "$@" install --yes --no-install-recommends --download-only "$package"
}

# Makes `DIR/root` with interpreters of the suite `$1` and everything that they need, its C library too, and beside
# it `DIR/python3.X` for each version. Nothing is installed, so that takes no rights.
require_pythons() {
    suite=$1 dir=$2
    shift 2
    wanted=$(echo "$suite $*" | cat - "$0" | cksum)
    is_there pythons "$dir" "$wanted" && return
    lock "$dir"
    is_there pythons "$dir" "$wanted" && return
    command -v apt-get >/dev/null || skip "Python of $suite" "this is no Debian system"
    rm -rf "$dir"
    mkdir -p "$dir/root" "$dir/apt/lists/partial" "$dir/apt/archives/partial"
    log=$dir.log
    : >"$log"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>>"$log" | grep -m 1 '/debian/*$') ||
        skip "Python of $suite" "no archive of Debian is configured"
    : >"$dir/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$dir/apt/sources.list"
    packages=$(printf 'python%s-venv ' "$@")
    # An empty list of what is installed: each dependency is fetched. A mirror may be a snapshot.
    set -- -o "Dir::State=$dir/apt" -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache=$dir/apt" \
        -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=- \
        -o Acquire::Check-Valid-Until=false -o Debug::NoLocking=1 -o APT::Sandbox::User=root
    # shellcheck disable=SC2086 # A list of names.
    { apt "$@" update && apt "$@" install --yes --no-install-recommends --download-only $packages; } >>"$log" 2>&1 ||
        skip "Python of $suite" "$(complaint "$log")"
    for archive in "$dir"/apt/archives/*.deb; do
        logged dpkg-deb --extract "$archive" "$dir/root"
    done
    rm -rf "$dir/apt"
    # The wheels of pip are below this root, not below that of the machine.
    find "$dir/root/usr/lib" -path '*/python3*' -name '_sysconfig*' -type f -exec \
        sed -i "s#\([\"']\)/usr/share/python-wheels#\1$dir/root/usr/share/python-wheels#" {} +
    loader=$(find "$dir/root/" -name 'ld-linux-*.so.*' ! -type d | head -n 1)
    libraries=$(dirname "$(find "$dir/root/" -name 'libc.so.6' | head -n 1)")
    for package in $packages; do
        name=${package%-venv}
        # Beside the interpreter, which finds its library and its environment by the name of its file.
        printf '#!/bin/sh\nexec "%s" --argv0 "$0" --library-path "%s" "%s" "$@"\n' \
            "$loader" "$libraries" "$dir/root/usr/bin/$name" >"$dir/root/usr/bin/$name-here"
        chmod +x "$dir/root/usr/bin/$name-here"
        ln -s "root/usr/bin/$name-here" "$dir/$name"
        "$dir/root/usr/bin/$name-here" -c 'import ssl' 2>>"$log" ||
            skip "$name of $suite" "what was unpacked does not run: $(tail -n 1 "$log")"
    done
    stamp pythons "$dir" "$wanted"
    rm -f "$log"
}

# Packages of a Debian system, without a question.
debian() {
    missing=
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
        [ "$state" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    missing=${missing# }
    command -v apt-get >/dev/null || skip "$missing" "this is no Debian system"
    [ "$(id -u)" = 0 ] || skip "$missing" "only root can install it (apt-get install $missing)"

    apt_log=$(mktemp)
    # shellcheck disable=SC2086 # A list of names.
    if apt_install $missing >"$apt_log" 2>&1 ||
        { apt update && apt_install $missing; } >>"$apt_log" 2>&1; then
        rm -f "$apt_log"
    else
        why=$(complaint "$apt_log")
        rm -f "$apt_log"
        skip "$missing" "$why"
    fi
}

apt_install() {
    apt install --yes --no-install-recommends "$@"
}

apt() {
    DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get --quiet -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# What apt-get could not do, from its output in file `$1`.
complaint() {
    echo "apt-get says: $(grep '^E:' "$1" | tail -n 1 | grep . || tail -n 1 "$1")"
}

# Runs a command with its output in the log, and shows the log if it fails.
logged() {
    "$@" >>"$log" 2>&1 || {
        cat "$log" >&2
        fail "$* did not work; the log is $log"
    }
}

skip() {
    echo "skipped: $1 because $2" >&2
    exit 3
}

fail() {
    echo "provision.sh: $1" >&2
    exit 1
}

main "$@"
