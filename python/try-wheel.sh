#!/bin/sh
# Builds the wheel and tries it in a fresh virtual environment of each interpreter named (default: every
# python3 on the path and in pyenv): serves, runs as a module, is removed without a trace.
#
#   python/try-wheel.sh [PYTHON...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$here/../target/wheel-tools
[ -x "$tools/bin/maturin" ] || {
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet install "maturin>=1.9,<2" twine check-wheel-contents auditwheel
}

(cd "$here" && CARGO_TARGET_DIR="$here/../target" "$tools/bin/maturin" build --release --out "$here/../target/wheels")
wheel=$(ls -t "$here"/../target/wheels/*.whl | head -n 1)
size=$(stat -c %s "$wheel")
echo "$(basename "$wheel"): $size bytes"
[ "$size" -le 8000000 ]
"$tools/bin/twine" check "$wheel"
"$tools/bin/check-wheel-contents" "$wheel"
"$tools/bin/auditwheel" show "$wheel" | sed -n 2,4p

[ $# -gt 0 ] || set -- $(ls /usr/bin/python3.[0-9]* /usr/local/bin/python3.[0-9]* "$HOME"/.pyenv/versions/*/bin/python3 2>/dev/null | grep -v config)
serves() {
    "$@" --app hello.wsgi --chdir "$here/examples" --bind "unix:$work/socket" --control off >"$work/log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        curl --silent --fail --unix-socket "$work/socket" http://localhost/ >"$work/page" && break
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    kill $server
    wait $server || { cat "$work/log"; exit 1; }
    [ -s "$work/page" ]
    rm "$work/page"
}
for python in "$@"; do
    "$python" -m venv "$work/venv" 2>/dev/null || { echo "skipped: $python, because it makes no virtual environments"; continue; }
    "$work/venv/bin/pip" --quiet install "$wheel"
    serves "$work/venv/bin/pyserve"
    grep -q "$work/venv" "$work/log"
    serves "$work/venv/bin/python" -m pyserve
    grep -q "$work/venv" "$work/log"
    "$work/venv/bin/python" -c 'import pyserve; assert pyserve.worker_id() is None'
    "$work/venv/bin/pip" --quiet uninstall --yes pyserve-wsgi
    left=$(find "$work/venv" -name '*pyserve*')
    [ -z "$left" ] || { echo "left behind: $left"; exit 1; }
    echo "$python: serves, as a module too, and leaves nothing behind"
    rm -rf "$work/venv"
done
