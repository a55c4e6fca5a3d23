#!/usr/bin/env bash
# Takes the screenshot of the default page with a real browser.
#
#   docker/appservice/screenshot.sh [URL] [FILE]
#
# URL is where the image `appservice` answers (http://127.0.0.1/), FILE a PNG (hostingstart.png beside this script).
# Chromium is a package of Debian, which root gets where it is missing. Exit codes: 0 the file is there, 1 the page or
# the browser fails, 3 there is no Chromium.
set -uo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
url=${1:-http://127.0.0.1/}
file=$(realpath -m "${2:-$here/hostingstart.png}")
size=1000x620

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! browser >/dev/null; then
    "$here/../../tests/provision/provision.sh" debian chromium >/dev/null 2>&1
fi
if ! browser >/dev/null; then
    echo "skipped: the screenshot because there is no chromium, and none can be installed" >&2
    exit 3
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Root needs --no-sandbox; /dev/shm of a container is too small for a page. The browser of another run has its own
# profile.
chromium=("$(browser)" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars
    --user-data-dir="$work/profile" --timeout=20000)
page=$(timeout 120 "${chromium[@]}" --dump-dom "$url" 2>"$work/log")
if [[ $page != *"Your Python site is running"* ]]; then
    tail -n 5 "$work/log" >&2
    echo "$url is not the default page: ${page:0:200}" >&2
    exit 1
fi
timeout 120 "${chromium[@]}" --window-size="${size/x/,}" --screenshot="$work/page.png" "$url" >"$work/log" 2>&1
# Width and height of a PNG are two numbers behind the header of its first chunk (PNG, "IHDR").
taken=$(python3 -c 'import struct, sys; print("%dx%d" % struct.unpack(">II", open(sys.argv[1], "rb").read()[16:24]))' "$work/page.png")
if [ "$taken" != "$size" ] || [ "$(stat -c %s "$work/page.png")" -lt 5000 ]; then
    tail -n 5 "$work/log" >&2
    echo "the screenshot of $url is $taken, and empty or not $size" >&2
    exit 1
fi
mv "$work/page.png" "$file"
echo "$file: $taken"
