#!/bin/sh
# Prepares what tests and benchmarks need and the project does not carry:
#
#   provision.sh venv   PYTHON DIR      a virtual environment with Django and Flask
#   provision.sh peers  PYTHON DIR      the same with gunicorn and Granian in it
#   provision.sh uwsgi  PYTHON DIR      the same with uWSGI, compiled for PYTHON
#   provision.sh bjoern PYTHON DIR      the same with bjoern, compiled for PYTHON
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
    venv | peers | uwsgi | bjoern)
        [ $# -eq 3 ] || usage
        require "$@"
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
    sed -n '3,7s/^# *//p' "$0" >&2
    exit 2
}

# Makes sure that the set of packages `$1`, made for interpreter `$2`, is in directory `$3`.
require() {
    set_name=$1 dir=$3
    python=$(command -v "$2") || fail "there is no interpreter $2"
    wanted=$(fingerprint "$set_name" "$python")
    is_there "$set_name" "$dir" "$wanted" && return

    mkdir -p "$(dirname "$dir")"
    exec 9>"$dir.lock"
    flock -w "$lock_wait" 9 || fail "another run holds $dir.lock for over $lock_wait s"
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
    peers) logged pip_install "$dir" -r "$here/peers.txt" ;;
    uwsgi) compile uWSGI "$dir" ;;
    bjoern)
        [ -e /usr/include/ev.h ] || (debian libev-dev) || skip bjoern "libev's headers are missing"
        compile bjoern "$dir"
        ;;
    esac
    stamp "$set_name" "$dir" "$wanted"
    rm -f "$log"
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

# Packages of a Debian system, without a question and without starting what they bring.
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
        why=$(grep -m 1 '^E:' "$apt_log" || tail -n 1 "$apt_log")
        rm -f "$apt_log"
        skip "$missing" "apt-get says: $why"
    fi
}

apt_install() {
    apt install --yes --no-install-recommends "$@"
}

# RUNLEVEL: a server that is installed here is not started (invoke-rc.d asks it).
apt() {
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        apt-get --quiet -o DPkg::Lock::Timeout=300 "$@" </dev/null
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
