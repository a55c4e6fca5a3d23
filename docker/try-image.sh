#!/usr/bin/env bash
# Builds the image and runs it as a strict platform would: any user, read-only root, no
# capabilities, little memory. Ends with 0 if the hello example answers and stops as it should,
# with 3 where there is no engine to try it with.
#
#   docker/try-image.sh [DIRECTORY]     keeps its daemon's data there (target/try-image)
#
# An engine that runs is used, with the official base images. Otherwise root gets a private
# daemon and stand-ins for those images: packages of Debian and this machine's Rust.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

state=$(realpath -m "${1:-target/try-image}")
image=pyserve:try
container=
daemon=
bridge=
build=()

main() {
    if docker info >/dev/null 2>&1; then
        engine=(docker)
    else
        private_engine
        stand_ins
    fi
    trap stop EXIT
    build_image
    run_image
    echo "the image works: $("${engine[@]}" image inspect -f '{{.Size}}' "$image") bytes"
}

private_engine() {
    [ "$(id -u)" = 0 ] || skip "no engine answers, and only root can start one"
    tests/provision/provision.sh debian curl docker.io iproute2 mmdebstrap || skip "no engine can be installed"
    mkdir -p "$state"
    trap stop EXIT
    # Debian's own client: it has BuildKit without a plugin.
    engine=(/usr/bin/docker -H "unix://$state/docker.sock")
    ip link show docker0 >/dev/null 2>&1 || bridge=docker0
    # No rules in the kernel's tables: they would outlive the daemon and slow every connection
    # of this machine. Its proxy process publishes the port without them.
    setsid dockerd --iptables=false --ip-forward=false -H "unix://$state/docker.sock" --data-root "$state/data" --exec-root "$state/exec" \
        --pidfile "$state/docker.pid" >"$state/daemon.log" 2>&1 &
    daemon=$!
    for _ in {1..150}; do
        "${engine[@]}" info >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 20 "$state/daemon.log" >&2
    skip "the daemon does not start"
}

# Images in place of the official ones, made once and kept in the daemon.
stand_ins() {
    base_image try/python python3,python3-venv
    base_image try/gcc gcc,libc6-dev,ca-certificates
    if ! have try/rust; then
        tar -C "$(rustc --print sysroot)" --exclude=./share --exclude=./lib/rustlib/src -c . |
            "${engine[@]}" import - try/toolchain >/dev/null
        printf 'FROM try/gcc\nCOPY --from=try/toolchain / /usr/local/\n' |
            DOCKER_BUILDKIT=1 "${engine[@]}" build -q -t try/rust - >/dev/null
    fi
    # The host's network: without rules the bridge leads nowhere, and cargo fetches crates.
    build=(--network host --build-arg RUST_IMAGE=try/rust --build-arg PYTHON_IMAGE=try/python)
}

base_image() {
    have "$1" && return
    local tar
    tar=$(mktemp --suffix=.tar)
    mmdebstrap -q --variant=minbase --format=tar --include="$2" bookworm "$tar" \
        /etc/apt/sources.list.d/debian.sources
    "${engine[@]}" import "$tar" "$1" >/dev/null
    rm -f "$tar"
}

have() {
    "${engine[@]}" image inspect "$1" >/dev/null 2>&1
}

# The first line of the Dockerfile would fetch a newer reader of such files.
build_image() {
    sed '/^# *syntax=/d' docker/Dockerfile |
        DOCKER_BUILDKIT=1 "${engine[@]}" build --progress plain -f - -t "$image" "${build[@]}" \
            --secret "id=ca,src=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" .
}

run_image() {
    container=$("${engine[@]}" run -d --user 1234560000:0 --read-only --tmpfs /tmp:rw,size=16m,mode=1777 \
        --cap-drop ALL --security-opt no-new-privileges --memory 128m --cpus 0.5 --pids-limit 64 \
        -p 127.0.0.1::8080 "$image")
    address=$("${engine[@]}" port "$container" 8080)
    for _ in {1..100}; do
        curl -sf "http://$address/api" >/dev/null && break
        sleep 0.1
    done
    expect / 'It works.'
    expect /api '"pid"'
    expect /css/hello.css color-scheme
    expect /js/hello.js fetch
    expect /images/pyserve.svg '<svg'
    expect /static/about.txt UTF-8
    # What HEALTHCHECK runs, as it runs it.
    "${engine[@]}" exec "$container" pyserve health || fail "pyserve health says no"
    "${engine[@]}" logs "$container"
    "${engine[@]}" stop -t 10 "$container" >/dev/null
    code=$("${engine[@]}" inspect -f '{{.State.ExitCode}}' "$container")
    [ "$code" = 0 ] || fail "SIGTERM ended the container with exit code $code"
}

expect() {
    curl -sf --max-time 10 "http://$address$1" | grep -q -F -- "$2" || fail "$1 is not answered as it should be"
}

# Runs at the end, whatever the end: nothing stays but the daemon's data.
stop() {
    if [ -n "$container" ]; then
        "${engine[@]}" rm -f "$container" >/dev/null || true
    fi
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" || true
    fi
    if [ -n "$bridge" ]; then
        ip link delete "$bridge" 2>/dev/null || true
    fi
}

skip() {
    echo "skipped: the trial of the image because $1" >&2
    exit 3
}

fail() {
    echo "try-image.sh: $1" >&2
    [ -z "$container" ] || "${engine[@]}" logs "$container" >&2
    exit 1
}

main
