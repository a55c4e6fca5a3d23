#!/bin/sh
# Builds the wheel, checks it, and tries it (try_wheel.py) with each interpreter named (default: every CPython on the
# path and in pyenv), and with that of older or newer suites of Debian in roots of their own:
#
#   python/try-wheel.sh [--wheel FILE] [--root SUITE]... [PYTHON...]
#
# With --wheel, that one is tried and nothing is built. A root needs the rights of root and mmdebstrap.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=$here/../target
# PyPI's users download it for each image that they build.
most_bytes=8000000
wheel=
roots=

while [ $# -gt 0 ]; do
    case $1 in
    --wheel) wheel=$(realpath "$2") && shift 2 ;;
    --root) roots="$roots $2" && shift 2 ;;
    -*) sed -n '5s/^# *//p' "$0" >&2 && exit 2 ;;
    *) break ;;
    esac
done

tools=$target/release-tools
[ "$tools/done" -nt "$here/../docker/release-tools.txt" ] || {
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet install -r "$here/../docker/release-tools.txt"
    touch "$tools/done"
}
PATH=$tools/bin:$PATH
export PATH

if [ -z "$wheel" ]; then
    built=$(mktemp -d)
    trap 'rm -rf "$built"' EXIT
    (cd "$here" && CARGO_TARGET_DIR=$target maturin build --release --locked --out "$built")
    mkdir -p "$target/wheels"
    python3 "$here/build_backend.py" documents "$built"/*.whl
    name=$(basename "$built"/*.whl)
    mv "$built/$name" "$target/wheels/$name"
    wheel=$target/wheels/$name
fi
size=$(stat -c %s "$wheel")
echo "$(basename "$wheel"): $size bytes"
[ "$size" -le "$most_bytes" ] || { echo "it has more than $most_bytes bytes" >&2 && exit 1; }
twine check --strict "$wheel"
check-wheel-contents "$wheel"
auditwheel show "$wheel"

# In a root: the wheel, the trial and the example, and no network.
try_in_root() {
    suite=$1
    for tool in mmdebstrap chroot; do
        command -v "$tool" >/dev/null || { echo "skipped: $suite because there is no $tool" >&2 && return; }
    done
    [ "$(id -u)" = 0 ] || { echo "skipped: $suite because only root can use a root" >&2 && return; }
    root=$target/roots/$suite
    [ -e "$root/made" ] || {
        rm -rf "$root"
        mkdir -p "$target/roots"
        # The suites of this machine would mix with that one; a mirror may be a snapshot.
        mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/*$')
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" |
            mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
                --include=python3,python3-venv "$suite" "$root" - ||
            { echo "skipped: $suite because the archive does not have it" >&2 && return; }
        touch "$root/made"
    }
    rm -rf "$root/try"
    mkdir "$root/try"
    cp -r "$here/try_wheel.py" "$here/examples" "$wheel" "$root/try/"
    echo "$suite: $(chroot "$root" ldd --version | head -n 1)"
    # The server finds its own file, and so its environment, by /proc.
    mount -t proc proc "$root/proc"
    code=0
    chroot "$root" env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 HOME=/root \
        python3 /try/try_wheel.py "/try/$(basename "$wheel")" || code=$?
    umount "$root/proc"
    return $code
}

[ $# -gt 0 ] || [ -n "$roots" ] || {
    # Links to the same interpreter count once.
    set -- $(for python in /usr/bin/python3 /usr/bin/python3.[0-9]* /usr/local/bin/python3.[0-9]* \
        "$HOME"/.pyenv/versions/*/bin/python3; do
        case $python in *-config) ;; *) [ ! -x "$python" ] || realpath "$python" ;; esac
    done | sort -u)
}
for python in "$@"; do
    "$python" "$here/try_wheel.py" "$wheel" || [ $? -eq 3 ]
done
for suite in $roots; do
    try_in_root "$suite"
done
