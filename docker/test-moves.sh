#!/usr/bin/env bash
# Builds whole images before and after the lines that `pyserve explain` proposes, and compares what they serve: by
# hand, within 20 minutes.
#
#   docker/test-moves.sh --binary FILE [--only IMAGE] [DIRECTORY]
#
# The images are the directories `whole-*` of tests/foreign/images, with the application of docker/moves. Official
# images are stand-ins of Debian's packages, so it needs the private daemon of engine.sh, below DIRECTORY
# (target/images). Differences that are said in the lines are listed beside each image below.
# Exit codes: 0 all is well, 1 something is not, 3 there is no engine.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

only=
binary=
state=target/images
while [ $# -gt 0 ]; do
    case "$1" in
    --only) only=$2 && shift ;;
    --binary) binary=$(realpath "$2") && shift ;;
    *) state=$1 ;;
    esac
    shift
done
[ -n "$binary" ] || { echo "usage: docker/test-moves.sh --binary FILE [--only IMAGE] [DIRECTORY]" >&2; exit 2; }

skip() {
    echo "skipped: the moves because $1" >&2
    exit 3
}

. docker/engine.sh

failed=0
work=$(mktemp -d)
label=pyserve.moves=$$
trap finish EXIT

wrong() {
    printf '%-16s WRONG   %s\n' "$image" "$1"
    failed=1
}

# Official images by their names, with the certificates of this machine.
official_images() {
    local ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    stand_ins
    base_image stand-in/debian ca-certificates
    mkdir -p "$work/base" "$work/pyserve" && cp "$ca" "$work/base/ca.crt"
    printf 'FROM stand-in/python\nCOPY ca.crt /etc/ssl/certs/ca-certificates.crt\nENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n' |
        d build -q -f - -t python:3.11-slim "$work/base" >/dev/null
    printf 'FROM stand-in/debian\nCOPY ca.crt /etc/ssl/certs/ca-certificates.crt\n' |
        d build -q -f - -t debian:bookworm "$work/base" >/dev/null
    printf 'FROM debian:bookworm\nRUN apt-get update && apt-get install -y --no-install-recommends nginx && rm /etc/nginx/sites-enabled/default\nCMD ["nginx", "-g", "daemon off;"]\n' |
        d build -q --network host -f - -t nginx:1.25 "$work/base" >/dev/null
    d build -q --network host -t tiangolo/uwsgi-nginx-flask:python3.11 docker/stand-ins/uwsgi-nginx-flask >/dev/null
    cp "$binary" "$work/pyserve/pyserve"
    strip "$work/pyserve/pyserve" 2>/dev/null
    printf 'FROM scratch\nCOPY --chmod=755 pyserve /usr/local/bin/pyserve\n' | d build -q -f - -t pyserve "$work/pyserve" >/dev/null
}

# `serve WHEN PORT`: builds and runs the image of $work/WHEN; prints the responses and what the container is.
serve() {
    local name=moves-$1 dir=$work/$1 port=$2 address
    d build -q --network host -t "moves/$image:$1" -f "$dir/$dockerfile" "$dir" >/dev/null 2>"$work/build.log" ||
        { wrong "$1: it does not build: $(grep -E 'ERROR|error|cannot|fail' "$work/build.log" | head -n 5)"; return 1; }
    d rm -f "$name" >/dev/null 2>&1
    # shellcheck disable=SC2086
    d run -d --name "$name" --label "$label" -p "127.0.0.1::$port" $run_options "moves/$image:$1" $run_command >/dev/null 2>"$work/run.log" ||
        { wrong "$1: it does not start: $(cat "$work/run.log")"; return 1; }
    address=$(d port "$name" "$port" | head -n 1)
    answers "$address" || { wrong "$1: it does not answer: $(d logs "$name" 2>&1 | tail -n 12)"; return 1; }
    python3 docker/moves/moves.py ask "$address" "${requests[@]}" >"$work/$1.json"
    [ -z "${show-}" ] || cat "$work/$1.json"
    # What one sees from outside.
    d stop -t 15 "$name" >/dev/null
    echo "$1: it ended with $(d inspect -f '{{.State.ExitCode}}' "$name")" >>"$work/ended"
    [ -z "${logs-}" ] || d logs "$name" 2>&1 | tail -n "$logs"
    d rm -f "$name" >/dev/null
}

answers() {
    local _
    for _ in {1..150}; do
        curl -s -o /dev/null --max-time 5 "http://$1/" && [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$1/")" -lt 500 ] && return
        sleep 0.1
    done
    return 1
}

# `move IMAGE PORT`: before and after; $by_hand changes the files as the advice of lines says that are not supported,
# and $known is a pattern of differences that lines say.
move() {
    image=$1
    [ -z "$only" ] || [ "$only" = "$image" ] || return 0
    local dockerfile=${dockerfile:-Dockerfile} run_options=${run_options-} run_command=${run_command-} found
    rm -rf "$work/before" "$work/after"
    cp -r "tests/foreign/images/$image" "$work/before"
    cp docker/moves/probe.py "$work/before/${code:-.}/"
    cp -r "$work/before" "$work/after"
    (cd "$work/after" && "$binary" explain --json . >"$work/explained")
    python3 docker/moves/moves.py apply "$work/explained" "$work/after" || wrong "the replacements do not fit"
    (cd "$work/after" && eval "${by_hand:-true}")
    serve before "$2" && serve after "$2" || return
    found=$(python3 docker/moves/moves.py differences "$work/before.json" "$work/after.json" | grep -vE "$usual${known:+|$known}")
    if [ -n "$found" ]; then wrong "$found"; else printf '%-16s ok\n' "$image"; fi
}

# The same for all images: the manual's list of differences.
# uWSGI has empty variables where pyserve has none, gunicorn has no URI; the user's variables are those of `uid`.
usual='^body.request.(HTTP_X_REQUEST_ID|REQUEST_URI|SERVER_NAME|REMOTE_ADDR|HTTP_X_FORWARDED_(FOR|PROTO)|HTTP_CONNECTION|SERVER_PROTOCOL|SERVER_PORT|(HTTP_)?CONTENT_LENGTH|CONTENT_TYPE|SCRIPT_NAME):'
usual+='|^body.(path|argv|variables.(VIRTUAL_ENV|PIP_.*|HOME|USER|LOGNAME|LC_CTYPE)):|^headers.Cache-Control:|^headers.Content-Type: .text/css. became .text/css; charset'
requests=(/ '/page/?a=1' '/a%20b/' /static/site.css /static/missing.css /missing POST:/page/ HEAD:/static/site.css /page
    '/static/../page/' //page//)

# A Compose file of nginx and the application, which becomes one service: ports move and the site becomes
# pyserve.toml, as its line says.
compose_move() {
    image=$1
    [ -z "$only" ] || [ "$only" = "$image" ] || return 0
    local when found
    rm -rf "$work/before" "$work/after"
    cp -r "tests/foreign/images/$image" "$work/before"
    cp docker/moves/probe.py "$work/before/web/"
    cp -r "$work/before" "$work/after"
    (cd "$work/after" && "$binary" explain --json . >"$work/explained" && "$binary" explain --write . >/dev/null 2>&1 && mv pyserve.toml web/)
    python3 docker/moves/moves.py apply "$work/explained" "$work/after" || wrong "the replacements do not fit"
    sed -i -e '/^  nginx:/,/^volumes:/{/^volumes:/!d}' -e 's/^    expose:/    ports:/' -e 's/"8000"/"18080:80"/' "$work/after/compose.yaml"
    for when in before after; do
        cat >"$work/$when/network.yaml" <<<"services: {web: {build: {network: host}}}"
        dc() { "${engine[@]}" compose -f "$work/$when/compose.yaml" -f "$work/$when/network.yaml" -p pyserve-moves "$@"; }
        dc up -d --build >"$work/compose.log" 2>&1 && answers 127.0.0.1:18080 || {
            wrong "$when: it does not answer: $(tail -n 5 "$work/compose.log") $(dc logs 2>&1 | tail -n 12)"
            dc down -v >/dev/null 2>&1
            return
        }
        python3 docker/moves/moves.py ask 127.0.0.1:18080 "${requests[@]}" >"$work/$when.json"
        dc down -v >/dev/null 2>&1
    done
    found=$(python3 docker/moves/moves.py differences "$work/before.json" "$work/after.json" | grep -vE "$usual")
    if [ -n "$found" ]; then wrong "$found"; else printf '%-16s ok\n' "$image"; fi
}

moves() {
    compose_move whole-compose
    move whole-django 80
    code=app move whole-flask 8081
    move whole-entry 8000
    move whole-debian 8080
    move whole-stages 5000
    # The settings as pyserve.toml, with its hooks.
    by_hand='"$binary" explain --write . >/dev/null 2>&1
        sed -i "s/^CMD .*/CMD [\"pyserve\", \"--app\", \"probe:app\", \"--bind\", \"0.0.0.0:5000\"]/" Dockerfile' move whole-stages 5000
    move whole-split 8000
    move whole-shell 9000
    move whole-honcho 7000
    move whole-uv 8000
    # uWSGI's own HTTP resolves `..`.
    known='^body.request.PATH_INFO: ./page/. became ./static/../page/.' move whole-background 80
    known='^body.request.PATH_INFO: ./page/. became ./static/../page/.' dockerfile=docker/Dockerfile move whole-context 8000
}

start_engine "$state"
official_images
moves
[ "$failed" = 0 ] || exit 1
