#!/usr/bin/env bash
# Builds all images and checks them on running containers: by hand, within 40 minutes.
#
#   docker/test-images.sh [--first] [--binary FILE] [--only PART] [DIRECTORY]
#
# --first checks one image on a platform that is as strict as they come, which `cargo test` does. --binary takes
# the place of a release build. DIRECTORY keeps the data of a private daemon (target/images); see engine.sh.
# Exit codes: 0 all is well, 1 something is not, 3 there is no engine.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

parts=(strict runs environment reloads leak zombies schedule appservice recipes readme development production swarm manifests table)
only=
binary=
state=target/images
while [ $# -gt 0 ]; do
    case "$1" in
    --first) only=strict ;;
    --only) only=$2 && shift ;;
    --binary) binary=$(realpath "$2") && shift ;;
    *) state=$1 ;;
    esac
    shift
done

skip() {
    echo "skipped: the images because $1" >&2
    exit 3
}

. docker/engine.sh

failed=0
current=
work=$(mktemp -d)
label=pyserve.test=$$
trap finish EXIT

ok() { printf '%-12s ok      %s\n' "$current" "$1"; }
wrong() {
    printf '%-12s WRONG   %s\n' "$current" "$1"
    failed=1
}
# `expect WHAT ACTUAL PATTERN`: the pattern is a glob.
expect() {
    # shellcheck disable=SC2053
    if [[ $2 == $3 ]]; then ok "$1"; else wrong "$1: ${2:0:500}"; fi
}

target() {
    have "pyserve:$1" && [ -z "${rebuilt-}" ] && [ -n "${reuse-}" ] && return
    build docker/Dockerfile "${release[@]}" --target "$1" -t "pyserve:$1" . >/dev/null || {
        wrong "the target $1 does not build"
        return 1
    }
}

# `run NAME PORT ARGUMENT...` starts a container; `address` is where its port is published.
run() {
    local name=$1 port=$2
    shift 2
    d rm -f "$name" >/dev/null 2>&1
    d run -d --name "$name" --label "$label" -p "127.0.0.1::$port" "$@" >/dev/null 2>"$work/run.log" || {
        wrong "$name does not start: $(grep -v forwarding "$work/run.log")"
        return 1
    }
    address=$(d port "$name" "$port" | head -n 1)
}

# Waits until an URL answers with a status below 400.
answers() {
    for _ in {1..300}; do
        curl -sf -o /dev/null --max-time 5 "http://$1" && return
        sleep 0.1
    done
    wrong "$1 does not answer"
    return 1
}

get() { curl -s --max-time 20 "http://$address$1"; }
logs() { d logs "$1" 2>&1; }
stop_code() {
    d stop -t 15 "$1" >/dev/null
    d inspect -f '{{.State.ExitCode}}' "$1"
}
healthy() {
    local health
    for _ in {1..300}; do
        health=$(d inspect -f '{{.State.Health.Status}}' "$1")
        [ "$health" = healthy ] && break
        sleep 0.2
    done
    expect "$1: the health check passes" "$health" healthy
}

# A site of one file below $work/NAME.
site() {
    mkdir -p "$work/$1"
    printf 'FROM %s\nCOPY . .\n' "${2:-pyserve:batteries}" >"$work/$1/Dockerfile"
    cat >"$work/$1/main.py"
    # shellcheck disable=SC2046
    build "$work/$1/Dockerfile" -t "test/$1" "$work/$1" >/dev/null || wrong "test/$1 does not build"
}

HELLO='import os, sys, time
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.5)
    return [("%s %s %s" % (os.environ.get("GREETING"), os.getuid(), os.getpid())).encode()]
'

strict=(--user 1234560000:0 --read-only --tmpfs /tmp:rw,size=16m,mode=1777 --cap-drop ALL
    --security-opt no-new-privileges --memory 128m --cpus 0.5 --pids-limit 64)

# Any user, a read-only root, no capabilities, little memory.
strict() {
    target runtime || return
    mkdir -p "$work/hello"
    printf 'FROM pyserve:runtime\nCOPY python/examples ./\nENV PYSERVE_APP=hello.wsgi\n' >"$work/hello.Dockerfile"
    build "$work/hello.Dockerfile" -t test/hello . >/dev/null || return
    run strict 8080 "${strict[@]}" test/hello && answers "$address/" || { logs strict; return; }
    expect "a page" "$(get /)" '*It works.*'
    expect "an API" "$(get /api)" '*"pid"*'
    expect "a style sheet" "$(get /css/hello.css)" '*color-scheme*'
    expect "an image" "$(get /images/pyserve.svg)" '*<svg*'
    expect "a static file" "$(get /static/about.txt)" '*UTF-8*'
    healthy strict
    expect "the user is the platform's" "$(d exec strict id -u)" 1234560000
    expect "SIGTERM ends it with 0" "$(stop_code strict)" 0
    d rm -f strict >/dev/null
}

# Each target runs what it promises.
runs() {
    target binary && target batteries && target devel || return
    d rm -f copy >/dev/null 2>&1
    d create --name copy pyserve:binary pyserve >/dev/null
    d cp copy:/usr/local/bin/pyserve "$work/pyserve" >/dev/null 2>&1
    d rm copy >/dev/null
    expect "binary: the file runs here" "$("$work/pyserve" --version)" 'pyserve *'
    run batteries 8080 pyserve:batteries && answers "$address/" && expect "batteries: a page" "$(get /)" '*pyserve is running*'
    expect "no compiler in the image" "$(d run --rm --entrypoint sh pyserve:batteries -c 'command -v gcc cc rustc; true')" ''
    expect "not root" "$(d run --rm --entrypoint id pyserve:batteries -u)" 1001
    expect "packages" "$(d run --rm --entrypoint python pyserve:batteries -c 'import flask, django, psycopg, psycopg2, requests; print("all")')" all
    expect "the port of root" "$(d run --rm --user 0 pyserve:batteries check 2>&1)" '*0.0.0.0:80 *'
    expect "the manual" "$(d run --rm pyserve:batteries help images | head -n 1)" '*[Ii]mages*'
    expect "devel: tools" "$(d run --rm --entrypoint python pyserve:devel -c 'import debugpy, ipdb, pytest; print("all")')" all
    d rm -f batteries >/dev/null
    site hello <<<"$HELLO"
    expect "shell with a terminal" "$(printf 'import os\nprint("is", os.isatty(0), app.__name__)\nexit()\n' |
        timeout 60 script -qec "${engine[*]} run -it --rm test/hello shell" /dev/null)" '*is True app*'
}

# Variables and files of other images.
environment() {
    target batteries || return
    site hello <<<"$HELLO"
    mkdir -p "$work/old/static"
    printf 'FROM pyserve:batteries\nCOPY . .\n' >"$work/old/Dockerfile"
    printf '%s' "$HELLO" >"$work/old/main.py"
    echo '<p>the page' >"$work/old/static/index.html"
    echo 'export GREETING=from-prestart' >"$work/old/prestart.sh"
    build "$work/old/Dockerfile" -t test/old "$work/old" >/dev/null
    run old 8083 -e LISTEN_PORT=8083 -e NGINX_MAX_UPLOAD=1k -e STATIC_INDEX=1 -e UWSGI_PROCESSES=3 -e UWSGI_CHEAPER=1 test/old &&
        answers "$address/x" || { logs old; return; }
    expect "prestart.sh is sourced" "$(get /x)" 'from-prestart *'
    expect "STATIC_INDEX" "$(get /)" '*the page*'
    expect "NGINX_MAX_UPLOAD" "$(head -c 2000 /dev/zero | curl -s -o /dev/null -w '%{http_code}' --data-binary @- "http://$address/x")" 413
    expect "UWSGI_PROCESSES" "$(d exec old pyserve status)" '*of 1 to 3 workers*'
    expect "the start says so" "$(logs old)" '*NGINX_MAX_UPLOAD=1k: honoured*'
    run source 8080 -e APP_MODULE=main:app -e WEB_CONCURRENCY=2 -e GUNICORN_CMD_ARGS='--timeout 7' test/hello
    answers "$address/" && expect "source-to-image" "$(d exec source pyserve status)" '*2 of 2 to 2 workers*'
    mkdir -p "$work/proc"
    printf 'FROM pyserve:batteries\nCOPY . .\n' >"$work/proc/Dockerfile"
    printf '%s' "$HELLO" >"$work/proc/site_app.py"
    # shellcheck disable=SC2016
    echo 'web: gunicorn --bind 0.0.0.0:$PORT --env GREETING=procfile site_app:app' >"$work/proc/Procfile"
    build "$work/proc/Dockerfile" -t test/proc "$work/proc" >/dev/null
    mkdir -p "$work/app"
    printf 'FROM pyserve:batteries\nCOPY . .\n' >"$work/app/Dockerfile"
    printf '%s' "$HELLO" >"$work/app/app.py"
    build "$work/app/Dockerfile" -t test/app "$work/app" >/dev/null
    run app 8080 test/app && answers "$address/" && expect "an application takes the place of the default page" "$(get /)" 'None *'
    d rm -f app >/dev/null
    run proc 5000 -e PORT=5000 test/proc && answers "$address/" && expect "Procfile" "$(get /)" 'procfile *'
    d rm -f old source proc >/dev/null
}

# Requests while the server reloads and stops.
reloads() {
    target batteries || return
    site hello <<<"$HELLO"
    run reloads 8080 test/hello && answers "$address/" || return
    python3 docker/load.py "http://$address/" 8 >"$work/load" &
    local load=$!
    for _ in 1 2 3; do
        sleep 2
        d kill -s HUP reloads >/dev/null
    done
    wait $load
    expect "no request fails at three reloads" "$(cat "$work/load")" '* 0 failed*'
    expect "the reloads are done" "$(logs reloads | grep -c 'reload')" '[1-9]*'
    local slow=()
    for at in 1 2 3; do
        curl -s --max-time 20 -o "$work/slow$at" "http://$address/slow" &
        slow+=($!)
    done
    sleep 0.7
    expect "SIGTERM ends it with 0" "$(stop_code reloads)" 0
    wait "${slow[@]}"
    expect "requests in flight are finished" "$(grep -c '^None ' "$work"/slow[123] | grep -c ':1')" 3
    d rm -f reloads >/dev/null
}

# A leak is replaced before the kernel acts.
leak() {
    target batteries || return
    site leak <<'APP'
kept = []
def app(environ, start_response):
    kept.append(b"x" * (1 << 20))
    start_response("200 OK", [])
    return [b"%d" % len(kept)]
APP
    run leak 8080 "${strict[@]}" --cpus 1 test/leak && answers "$address/" || { logs leak; return; }
    local bad=0
    for _ in {1..400}; do
        sleep 0.02
        [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 "http://$address/")" = 200 ] || bad=$((bad + 1))
    done
    expect "400 MiB leak within 128 MiB without a failed request" $bad 0
    expect "the kernel killed nothing" "$(d inspect -f '{{.State.OOMKilled}}' leak)" false
    expect "a worker was replaced" "$(logs leak)" '*memory*'
    d rm -f leak >/dev/null
}

# Process 1 reaps what others leave.
zombies() {
    target batteries || return
    site hello <<<"$HELLO"
    run zombies 8080 test/hello && answers "$address/" || return
    for _ in 1 2 3 4 5; do
        d exec zombies sh -c '(sleep 0.1 &) ; exit 0'
    done
    sleep 1
    expect "no zombie stays" "$(d exec zombies sh -c 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l')" 0
    d rm -f zombies >/dev/null
}

# A companion with a schedule takes the place of cron.
schedule() {
    target batteries || return
    mkdir -p "$work/cron"
    printf 'FROM pyserve:batteries\nCOPY . .\n' >"$work/cron/Dockerfile"
    printf '%s' "$HELLO" >"$work/cron/main.py"
    printf '[[companion]]\nname = "job"\nschedule = "* * * * *"\ncommand = "echo the job runs"\n' >"$work/cron/pyserve.toml"
    build "$work/cron/Dockerfile" -t test/cron "$work/cron" >/dev/null
    run schedule 8080 test/cron && answers "$address/" || { logs schedule; return; }
    for _ in {1..65}; do
        logs schedule | grep -q 'the job runs' && break
        sleep 1
    done
    expect "the job runs each minute" "$(logs schedule)" '*the job runs*'
    d rm -f schedule >/dev/null
}

# The image for Azure Web App on Linux.
appservice() {
    target appservice || return
    run appservice 80 -p 127.0.0.1::2222 -e SSH_PASSWD=root:of-the-test pyserve:appservice && answers "$address/" ||
        { logs appservice; return; }
    expect "the default page" "$(get /)" '*Your Python site is running*'
    local picture
    picture=$(docker/appservice/screenshot.sh "http://$address/" "$work/hostingstart.png" 2>&1)
    case $? in
    0) ok "its screenshot" ;;
    3) echo "$picture" >&2 ;;
    *) wrong "its screenshot: $picture" ;;
    esac
    expect "entrypoint.log" "$(d exec appservice cat /home/LogFiles/entrypoint.log)" '*listening on*'
    expect "the log on stdout" "$(logs appservice)" '*GET / HTTP*'
    expect "the sample" "$(d exec appservice cat /tmp/uwsgi_django.ini)" '*module = hello.wsgi*'
    expect "workers are not root" "$(d exec appservice sh -c 'ps -o user= -C pyserve | sort | uniq -c')" '*www-data*'
    healthy appservice
    printf '#!/bin/sh\necho of-the-test\n' >"$work/password" && chmod +x "$work/password"
    local port
    port=$(d port appservice 2222 | head -n 1)
    expect "a log-in on 2222" "$(SSH_ASKPASS=$work/password SSH_ASKPASS_REQUIRE=force timeout 30 ssh -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -p "${port##*:}" root@127.0.0.1 'bash -lc "pyserve status | head -n 1; echo \$UWSGI_INI_DIR"' 2>/dev/null)" \
        'pyserve *serving*/etc/uwsgi'
    # The guide of the old image: a project of Django, and the sample in place of uwsgi.ini.
    d exec -w /home/site/wwwroot appservice python /usr/local/bin/django-admin.py startproject hello
    d exec appservice cp /tmp/uwsgi_django.ini /etc/uwsgi/uwsgi.ini
    expect "a reload takes the sample" "$(d exec appservice pyserve reload 2>&1)" '*'
    expect "Django by uwsgi_django.ini" "$(get /)" '*install worked successfully*'
    # The last step of the guide, as it prints it: uWSGI is called by hand after a change.
    printf '[uwsgi]\nchdir = /home/site/wwwroot\nwsgi-file = index.py\nsocket = /tmp/uwsgi.sock\n' | d exec -i appservice tee /etc/uwsgi/uwsgi.ini >/dev/null
    expect "uwsgi by hand" "$(d exec appservice uwsgi --uid www-data --gid www-data –ini=/etc/uwsgi/uwsgi.ini 2>/dev/null; echo "code $?")" \
        '*serves index.py (/etc/uwsgi/uwsgi.ini:3)*it serves on*code 0'
    expect "the changed uwsgi.ini" "$(get /)" '*Your Python site is running*'
    expect "a second start is refused" "$(d exec appservice pyserve 2>&1 >/dev/null; echo "code $?")" '*sshd does not start*address in use*code 69'
    expect "one sshd" "$(d exec appservice sh -c 'ps ax | grep -c "[s]shd -D"')" 1
    expect "uwsgi is a name of pyserve" "$(d exec appservice uwsgi --version)" 'pyserve * as uwsgi'
    expect "SIGTERM ends it with 0" "$(stop_code appservice)" 0
    # An old site and its uwsgi.ini over the defaults, and no password: no sshd.
    mkdir -p "$work/wwwroot/images" "$work/uwsgi"
    printf 'import os\ndef application(environ, start_response):\n    start_response("200 OK", [])\n    return [b"an old site of user %%d" %% os.getuid()]\n' >"$work/wwwroot/old.py"
    echo '<svg/>' >"$work/wwwroot/images/a.svg"
    printf '[uwsgi]\nchdir=/home/site/wwwroot\nwsgi-file=old.py\nmaster=true\nprocesses=4\npidfile=/tmp/master.pid\nsocket=/tmp/uwsgi.sock\nchmod-socket=664\nvacuum=true\n' >"$work/uwsgi/uwsgi.ini"
    chmod -R a+rX "$work/wwwroot" "$work/uwsgi" "$work"
    run appservice 80 -v "$work/wwwroot:/home/site/wwwroot" -v "$work/uwsgi:/etc/uwsgi" pyserve:appservice && answers "$address/" ||
        { logs appservice; return; }
    expect "an old site and its uwsgi.ini" "$(get /)" 'an old site of user 33'
    expect "its images" "$(get /images/a.svg)" '<svg/>'
    expect "no sshd without a password" "$(d exec appservice sh -c 'ps ax | grep -c "[s]shd -D"')" 0
    # The same, read-only and without the sample; and a directory without a file.
    rm -f "$work/uwsgi/uwsgi_django.ini"
    run appservice 80 -v "$work/wwwroot:/home/site/wwwroot:ro" -v "$work/uwsgi:/etc/uwsgi:ro" pyserve:appservice && answers "$address/" ||
        { logs appservice; return; }
    expect "a read-only UWSGI_INI_DIR" "$(get /)" 'an old site of user 33'
    expect "the log has a note" "$(logs appservice)" '*/etc/uwsgi cannot be written: it gets no uwsgi_django.ini*'
    mkdir "$work/empty"
    run appservice 80 -v "$work/empty:/etc/uwsgi:ro" pyserve:appservice && answers "$address/" || { logs appservice; return; }
    expect "an empty read-only UWSGI_INI_DIR" "$(get /)" '*Your Python site is running*'
    # A log directory that cannot be written, and one that is full; a log-in by key.
    ssh-keygen -q -t ed25519 -N '' -f "$work/key"
    run appservice 80 -p 127.0.0.1::2222 -e WEBSITE_INSTANCE_ID=x -e "SSH_PUBLIC_KEY=$(cat "$work/key.pub")" -v "$work/empty:/home/LogFiles:ro" pyserve:appservice &&
        answers "$address/" || { logs appservice; return; }
    expect "a read-only /home/LogFiles" "$(get /)" '*Your Python site is running*'
    port=$(d port appservice 2222 | head -n 1)
    expect "a log-in by key, with a cipher of the platform" "$(timeout 30 ssh -c aes256-cbc -m hmac-sha1 -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes \
        -p "${port##*:}" root@127.0.0.1 'bash -lc "pyserve status | head -n 1"' 2>/dev/null)" 'pyserve *serving*'
    # Without a free inode.
    run appservice 80 --tmpfs /home/LogFiles:rw,nr_inodes=1 pyserve:appservice || return
    answers "$address/" && expect "a full /home/LogFiles" "$(get /)" '*Your Python site is running*'
    d rm -f appservice >/dev/null
}

# Each recipe of the manual.
recipes() {
    target batteries && target binary && target runtime || return
    local name
    d tag pyserve:runtime pyserve:latest
    for name in docker/recipes/*/; do
        name=$(basename "$name")
        echo secret-of-the-build >"$work/token"
        build "docker/recipes/$name/Dockerfile" --secret "id=token,src=$work/token" -t "test/$name" "docker/recipes/$name" >/dev/null ||
            { wrong "$name does not build"; continue; }
        run "recipe-$name" 8080 "${strict[@]}" "test/$name" && answers "$address/" || { logs "recipe-$name" | tail -n 5; continue; }
        expect "$name answers" "$(get /)" '*recipe*'
        expect "$name has no secret" "$(d save "test/$name" | tar -xO 2>/dev/null | grep -ac secret-of-the-build)" 0
        d rm -f "recipe-$name" >/dev/null
    done
}

# The Dockerfile of the README's "Moving over", as it stands there, with the image of the command beside it; with a stand-in as base it gets what pip needs.
readme() {
    local words
    words=$(sed -n 's/.*`docker build -f docker\/Dockerfile \(.*\) \.`.*/\1/p' README.md | head -n 1)
    d rmi -f pyserve:latest >/dev/null 2>&1
    # shellcheck disable=SC2086
    build docker/Dockerfile "${release[@]}" $words . >/dev/null || { wrong "its command does not build: $words"; return; }
    cp -r docker/recipes/django "$work/readme"
    echo 'Django>=4.2,<6' >"$work/readme/requirements.txt"
    awk '/^After[:,]/ { found = 1 } found && /^```dockerfile/ { inside = 1; next } inside && /^```/ { exit } inside' README.md >"$work/readme/Dockerfile"
    if [ -n "$is_private" ]; then
        sed -i -e 's#^FROM .*#FROM stand-in/python\nENV PIP_BREAK_SYSTEM_PACKAGES=1#' \
            -e 's#^RUN #RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt #' "$work/readme/Dockerfile"
    fi
    build "$work/readme/Dockerfile" -t test/readme "$work/readme" >/dev/null || { wrong "it does not build"; return; }
    run readme 80 test/readme && answers "$address/" || { logs readme | tail -n 5; return; }
    expect "the image of the README" "$(get /)" 'the recipe for Django'
    expect "its static files" "$(get /static/site.css)" '*margin*'
    d rm -f readme >/dev/null
}

# PostgreSQL for the compose files: the official image, or packages of Debian.
database_image() {
    database=postgres:17
    [ -n "$is_private" ] || return 0
    database=stand-in/postgres
    base_image stand-in/debian ca-certificates
    have "$database" || build docker/stand-ins/postgres/Dockerfile -t "$database" docker/stand-ins/postgres >/dev/null
}

# The development loop of docker/compose.yaml.
development() {
    target devel && database_image || return
    cp -r docker/site "$work/source"
    chown -R 1234:0 "$work/source"
    chmod a+rx "$work"
    export SOURCE=$work/source DATABASE_IMAGE=$database UID_=1234 GID=0 ADDRESS=127.0.0.1:8931
    address=$ADDRESS
    dc() { env UID=1234 GID=0 "${engine[@]}" compose -f docker/compose.yaml -p pyserve-test "$@"; }
    dc up -d --wait >"$work/compose.log" 2>&1 || { wrong "compose up: $(tail -n 3 "$work/compose.log")"; dc logs | tail -n 20; dc down -v; return; }
    expect "Django with PostgreSQL" "$(get /)" '*Hello from postgresql: visit 1*'
    sed -i 's/GREETING = "Hello"/GREETING = "Changed"/' "$work/source/visits/views.py"
    local page
    for _ in {1..100}; do
        page=$(get /)
        [[ $page == *Changed* ]] && break
        sleep 0.1
    done
    expect "an edited file has a new answer" "$page" '*Changed from postgresql*'
    sed -i 's/auto_now_add=True)$/auto_now_add=True)\n    note = models.TextField(default="")/' "$work/source/visits/models.py"
    dc run --rm site manage makemigrations >"$work/compose.log" 2>&1 || wrong "makemigrations: $(tail -n 3 "$work/compose.log")"
    expect "the caller owns what is written" "$(stat -c %u "$work"/source/visits/migrations/0002*.py)" 1234
    dc run --rm test >"$work/compose.log" 2>&1
    expect "the tests pass in a clean room" "$? $(tail -n 5 "$work/compose.log")" '0 *OK*'
    dc --profile test rm -sf test-database >/dev/null 2>&1
    dc --profile test down -v >/dev/null 2>&1
    expect "nothing is left" "$(d ps -aq --filter label=com.docker.compose.project=pyserve-test | wc -l)" 0
}

# Two replicas on one machine.
production() {
    target batteries && database_image || return
    build docker/site/Dockerfile -t site docker/site >/dev/null || return
    mkdir -p "$work/secrets"
    echo of-the-database >"$work/secrets/database"
    echo postgres://site:of-the-database@database/site >"$work/secrets/url"
    head -c 32 /dev/urandom | base64 >"$work/secrets/key"
    chmod -R a+rX "$work"
    dp() {
        env DATABASE_IMAGE="$database" DATABASE_PASSWORD_FILE="$work/secrets/database" DATABASE_URL_FILE="$work/secrets/url" \
            SECRET_KEY_FILE="$work/secrets/key" PORTS=8941-8942 "${engine[@]}" compose -f docker/compose.prod.yaml -p pyserve-prod "$@"
    }
    dp up -d --wait database volumes >"$work/compose.log" 2>&1
    dp run --rm site deploy >"$work/compose.log" 2>&1 || { wrong "deploy: $(tail -n 5 "$work/compose.log")"; dp down -v; return; }
    dp up -d --wait site >"$work/compose.log" 2>&1 || wrong "compose up: $(tail -n 3 "$work/compose.log")"
    address=127.0.0.1:8941
    expect "the first replica" "$(get /)" '*from postgresql: visit*'
    expect "a collected file" "$(get /static/visits/site.css)" '*font*'
    address=127.0.0.1:8942
    expect "the second replica" "$(get /)" '*from postgresql: visit*'
    dp down -v >/dev/null 2>&1
}

# A rolling update of the stack, with clients in its network.
swarm() {
    target batteries || return
    site hello <<<"$HELLO"
    d tag test/hello test/site:1 && d tag test/hello test/site:2
    d swarm init --advertise-addr 127.0.0.1 >/dev/null 2>"$work/swarm.log" ||
        { echo "skipped: swarm because $(tail -n 1 "$work/swarm.log")" >&2; return; }
    SITE_IMAGE=test/site:1 ALLOWED_HOSTS='*' "${engine[@]}" stack deploy --detach=false -c docker/stack.yaml stack >"$work/swarm.log" 2>&1 ||
        wrong "stack deploy: $(tail -n 2 "$work/swarm.log")"
    d rm -f client >/dev/null 2>&1
    d run -d --name client --label "$label" --network stack_front -v "$PWD/docker/load.py:/load.py:ro" --entrypoint python \
        pyserve:batteries /load.py http://tasks.site:8080/ 25 >/dev/null
    d service update -q --image test/site:2 stack_site >"$work/swarm.log" 2>&1 || wrong "update: $(tail -n 2 "$work/swarm.log")"
    d wait client >/dev/null
    expect "no request fails at a rolling update" "$(logs client)" '* 0 failed*'
    expect "both replicas are new" "$(d service ps -f desired-state=running --format '{{.Image}}' stack_site | sort -u)" test/site:2
    d rm -f client >/dev/null
    d stack rm stack >/dev/null 2>&1
    sleep 3
    d swarm leave --force >/dev/null 2>&1
}

# Files for orchestrators and monitoring.
manifests() {
    local checked
    if [ ! -x "$state/tools/bin/kubernetes-validate" ]; then
        python3 -m venv "$state/tools" && "$state/tools/bin/pip" install -q kubernetes-validate pyyaml >/dev/null 2>&1
    fi
    checked=$("$state/tools/bin/kubernetes-validate" --strict docker/kubernetes/{configmap,secret,deployment,service,ingress,disruption,autoscaling}.yaml 2>&1)
    expect "manifests of Kubernetes" "$? $checked" '0 *'
    if command -v kubectl >/dev/null; then
        expect "kustomize" "$(kubectl kustomize docker/kubernetes 2>&1 | grep -c '^kind:')" 7
        expect "kustomize for OpenShift" "$(kubectl kustomize docker/openshift 2>&1 | grep '^kind:' | sort -u | tr '\n' ' ')" '*BuildConfig*Route*'
    else
        echo "skipped: kustomize because there is no kubectl" >&2
    fi
    if command -v promtool >/dev/null || tests/provision/provision.sh debian prometheus >/dev/null 2>&1; then
        checked=$(promtool check rules docker/grafana/alerts.yaml 2>&1 && promtool test rules docker/grafana/alerts.test.yaml 2>&1)
        expect "alert rules" "$? $checked" '0 *SUCCESS*'
    else
        echo "skipped: alert rules because there is no promtool" >&2
    fi
    expect "the dashboard" "$(python3 docker/grafana/check.py 2>&1)" 'ok*'
    SOURCE=. checked=$(d compose -f docker/compose.yaml config -q 2>&1 && d compose -f docker/compose.prod.yaml config -q 2>&1 && d stack config -c docker/stack.yaml 2>&1 >/dev/null)
    expect "compose files" "$? $checked" '0 *'
}

# Sizes and times until the first answer, beside nginx and uWSGI.
table() {
    target runtime && target batteries && target appservice || return
    site hello <<<"$HELLO"
    build docker/compare/Dockerfile -t compare docker/compare >/dev/null || { wrong "docker/compare does not build"; return; }
    local image port times took start
    echo
    echo "| image | size | start |"
    echo "|---|---|---|"
    for image in compare:80 test/hello:8080 pyserve:appservice:80; do
        port=${image##*:} image=${image%:*}
        times=()
        for _ in 1 2 3; do
            start=$(date +%s%N)
            run table "$port" "$image" && answers "$address/"
            took=$((($(date +%s%N) - start) / 1000000))
            times+=("$took")
        done
        took=$(printf '%s\n' "${times[@]}" | sort -n | sed -n 2p)
        printf '| %s | %s MB | %s ms |\n' "$image" "$(($(d image inspect -f '{{.Size}}' "$image") / 1000000))" "$took"
    done
    for image in stand-in/python pyserve:binary pyserve:runtime pyserve:batteries; do
        have $image && printf '| %s | %s MB | |\n' "$image" "$(($(d image inspect -f '{{.Size}}' "$image") / 1000000))"
    done
    echo
    d rm -f table >/dev/null
}

main() {
    start_engine "$state"
    stand_ins
    release=()
    if [ -n "$binary" ]; then
        mkdir -p "$work/binary"
        cp "$binary" "$work/binary/pyserve"
        strip "$work/binary/pyserve" 2>/dev/null
        release=(--build-context "prebuilt=$work/binary" --build-arg RELEASE=prebuilt)
    else
        rust_stand_in
    fi
    local part begin
    for part in "${parts[@]}"; do
        [ -z "$only" ] || [ "$only" = "$part" ] || continue
        current=$part
        begin=$SECONDS
        "$part"
        printf '%-12s %s s\n' "$part" $((SECONDS - begin))
    done
    [ "$failed" = 0 ] || exit 1
}

main
