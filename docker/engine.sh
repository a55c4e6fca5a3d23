#!/usr/bin/env bash
# A container engine for the scripts beside this one: `. docker/engine.sh`, then `start_engine DIRECTORY`.
#
# An engine that runs is used. Otherwise root gets a private daemon below DIRECTORY, with stand-ins for the official
# images: packages of Debian. Sets `engine` (the client, as an array) and `engine_args` (arguments of a build).
# Calls `skip REASON` of the caller where no engine can be had.

engine=()
engine_args=()
is_private=
engine_pid=
engine_bridge=
# The release of Debian of the stand-ins, and the Python in it.
suite=${SUITE:-bookworm}

start_engine() {
    local state
    state=$(realpath -m "$1")
    mkdir -p "$state"
    if docker info >/dev/null 2>&1; then
        engine=(docker)
        return
    fi
    [ "$(id -u)" = 0 ] || skip "no engine answers, and only root can start one"
    install_engine || skip "no engine can be installed"
    export DOCKER_BUILDKIT=1
    engine=(/usr/bin/docker -H "unix://$state/docker.sock")
    is_private=yes
    engine_args=(--network host)
    # Another run of these scripts has it.
    if "${engine[@]}" info >/dev/null 2>&1; then
        return
    fi
    ip link show docker0 >/dev/null 2>&1 || engine_bridge=docker0
    # No rules in the kernel's tables: they would outlive the daemon. Its proxy process publishes ports without
    # them; builds take the network of the machine.
    setsid dockerd --iptables=false --ip-forward=false -H "unix://$state/docker.sock" --data-root "$state/data" \
        --exec-root "$state/exec" --pidfile "$state/docker.pid" >"$state/daemon.log" 2>&1 &
    engine_pid=$!
    for _ in {1..150}; do
        "${engine[@]}" info >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 20 "$state/daemon.log" >&2
    skip "the daemon does not start"
}

# The client of Debian's next release brings buildx and compose; this one's lacks both.
install_engine() {
    [ -x /usr/sbin/dockerd ] && [ -x /usr/bin/docker ] && [ -e /usr/libexec/docker/cli-plugins/docker-compose ] &&
        command -v mmdebstrap >/dev/null && return
    local sources=/etc/apt/sources.list.d/debian.sources list=/etc/apt/sources.list.d/pyserve-engine.sources
    [ -e "$sources" ] || return 1
    local uri
    uri=$(sed -n 's/^URIs: *//p' "$sources" | head -n 1)
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$uri" \
        "$(sed -n 's/^Signed-By: *//p' "$sources" | head -n 1)" >"$list"
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: 50\n\nPackage: docker.io docker-cli docker-buildx docker-compose\nPin: release n=trixie\nPin-Priority: 600\n' \
        >/etc/apt/preferences.d/pyserve-engine
    local code=0
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker.io docker-cli \
                docker-buildx docker-compose mmdebstrap iproute2 curl ca-certificates
    } >/dev/null 2>&1 || code=1
    rm -f "$list" /etc/apt/preferences.d/pyserve-engine
    return $code
}

have() {
    "${engine[@]}" image inspect "$1" >/dev/null 2>&1
}

# Imports a base system with packages as image `$1`, once. Its tar archive is kept beside the daemon's data.
base_image() {
    have "$1" && return
    local tar
    tar=$(mktemp --suffix=.tar)
    mmdebstrap -q --variant=minbase --format=tar --include="$2" "${3:-$suite}" "$tar" \
        /etc/apt/sources.list.d/debian.sources
    "${engine[@]}" import "$tar" "$1" >/dev/null
    rm -f "$tar"
}

# Stand-ins for the official images, and the build arguments that name them.
stand_ins() {
    [ -n "$is_private" ] || return 0
    base_image stand-in/python ca-certificates,python3,python3-venv,python3-pip,python-is-python3
    engine_args+=(--build-arg PYTHON_IMAGE=stand-in/python --build-arg RUST_IMAGE=stand-in/rust)
}

# The toolchain of this machine in place of the official Rust image.
rust_stand_in() {
    [ -n "$is_private" ] || return 0
    have stand-in/rust && return
    base_image stand-in/gcc gcc,libc6-dev,ca-certificates
    tar -C "$(rustc --print sysroot)" --exclude=./share --exclude=./lib/rustlib/src -c . |
        "${engine[@]}" import - stand-in/toolchain >/dev/null
    printf 'FROM stand-in/gcc\nCOPY --from=stand-in/toolchain / /usr/local/\n' |
        "${engine[@]}" build -q -t stand-in/rust - >/dev/null
}

# Builds a Dockerfile: `build FILE ARGUMENT...`. Its first line would fetch a newer reader of such files.
build() {
    local file=$1
    shift
    sed '/^# *syntax=/d' "$file" |
        "${engine[@]}" build -q -f - "${engine_args[@]}" \
            --secret "id=ca,src=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$@"
}

stop_engine() {
    if [ -n "$engine_pid" ]; then
        kill "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" 2>/dev/null || true
    fi
    if [ -n "$engine_bridge" ]; then
        ip link delete "$engine_bridge" 2>/dev/null || true
    fi
}

d() { "${engine[@]}" "$@"; }

# For the end of a script: removes its containers, which have the label `label`, and its directory `work`.
# shellcheck disable=SC2154
finish() {
    [ ${#engine[@]} -gt 0 ] && d ps -aq --filter "label=$label" | xargs -r "${engine[@]}" rm -f >/dev/null 2>&1
    rm -rf "$work"
    stop_engine
}
