#!/usr/bin/env python3
"""Attacks in full size, and what they cost the server and a normal client.

    cargo build --release && python3 benches/attacks.py

Each attack runs in processes of its own for `--seconds`, longer if it is not over. Meanwhile a
normal client asks the attacked server and, in turns, one that is left alone and shares its CPUs:
what counts are the percentiles of one beside those of the other, the memory of pyserve itself
(resident, at its highest), and whether a worker was taken. A thousand readers first have the
application make 4 GB, and the normal client's requests stand in one line with theirs: there its
time counts from when all of them have been called. `tests/floods.rs` checks the same with smaller
numbers. Attacks on the memory budget (`--memory-budget 64M`) and on descriptors (`ulimit -n 2048`)
take half a core at most, and the normal client makes a new connection for every tenth request; its
p99 may be three times the other's, and memory may grow by 1.25 times the budget. Exits with 1 where the attacked client's p99 is over twice the other's (and over
`--floor`), memory has grown by `--memory` MiB or more, or a slow sender got a worker.
"""

import argparse
import contextlib
import http.client
import multiprocessing
import os
import resource
import select
import selectors
import socket
import sys
import tempfile
import time
import typing
from pathlib import Path

import measure
import servers

# Times shorter than the defaults, so that a run sees clients being given up.
LIMITS = ["--header-timeout", "10", "--body-timeout", "10", "--max-spool", "1G", "--threads", "2"]
# MiB of the budget that is attacked.
BUDGET = 64
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5)
UPLOAD = 100_000_000
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def main():
    options = parse()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(
        f"# Attacks\n\n{measure.machine()}; each {options.seconds} s or longer.\n\n"
        "| attack | p50 ms, alone | attacked | p99 ms, alone | attacked | memory MiB, before | at most | ended |\n"
        "|---|--:|--:|--:|--:|--:|--:|---|",
        flush=True,
    )
    failed = [name for name in options.only or ATTACKS if not run(name, options)]
    if failed:
        print("\ntoo costly: " + "; ".join(failed))
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=ATTACKS, help="this attack; repeatable")
    parser.add_argument("--seconds", type=float, default=20, help="of one attack; default %(default)s")
    parser.add_argument("--floor", type=float, default=5, help="ms that are the scheduler's; default %(default)s")
    parser.add_argument("--memory", type=float, default=100, help="MiB that an attack may cost; default %(default)s")
    parser.add_argument(
        "--pyserve", type=Path, default=servers.TARGET / "release/pyserve", help="default %(default)s"
    )
    return parser.parse_args()


def pyserve(site):
    # `sh` leaves its process to the server.
    limited = f'ulimit -n {site.env.get("DESCRIPTORS")} && exec "$0" "$@"'
    budget = ["--memory-budget", site.env["BUDGET"]] if "BUDGET" in site.env else []
    return [[
        *(["sh", "-c", limited] if "DESCRIPTORS" in site.env else []),
        str(site.pyserve), *budget, "--app", "attacked", "--chdir", str(site.chdir), "--bind", f"127.0.0.1:{site.port}",
        "--workers", "2", "--access-log", "off", "--control", "off", *LIMITS,
    ]]  # fmt: skip


@contextlib.contextmanager
def serving(options, attack):
    """A server, its port, and the file of the paths that were called."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as work:
        called = Path(work) / "called"
        site = servers.Site(
            "", "", servers.TOP / "benches/apps", Path(), options.pyserve.resolve(), Path(work),
            servers.free_port(), {"CALLED": str(called), "PYTHONDONTWRITEBYTECODE": "1", **attack.limits},
        )  # fmt: skip
        server = servers.Running(pyserve, site)
        try:
            server.wait_ready(lambda _url: waiting_time(client(site.port)))
            yield server, site.port, called
        finally:
            server.stop()


def run(name, options):
    """One attack, as a line of the table; whether it cost as little as it should."""
    attack = ATTACKS[name]
    with serving(options, attack) as (server, port, called), serving(options, attack) as (_, quiet_port, _):
        attacked, alone = client(port), client(quiet_port)
        for _ in range(200):
            waiting_time(attacked), waiting_time(alone)
        before = most = resident_mib(server.processes[0].pid)
        until = time.monotonic() + options.seconds
        said = multiprocessing.SimpleQueue()
        attackers = [
            multiprocessing.Process(target=lambda part=part: said.put(attack.act(port, part, attack.parts, until)))
            for part in range(attack.parts)
        ]
        for attacker in attackers:
            attacker.start()
        times, counts = ([], []), False
        while time.monotonic() < until or any(attacker.is_alive() for attacker in attackers):
            pair = waiting_time(alone), waiting_time(attacked)
            counts = counts or calls(called) >= attack.made_first
            if counts:
                times[0].append(pair[0])
                times[1].append(pair[1])
            if len(times[0]) % 20 == 0:
                most = max(most, resident_mib(server.processes[0].pid))
            if attack.limits and len(times[0]) % 10 == 0:
                attacked, alone = client(port), client(quiet_port)
            # Not to be an attack of its own.
            time.sleep(0.005)
        for attacker in attackers:
            attacker.join()
        endings = [said.get() for attacker in attackers if attacker.exitcode == 0]
        paths = called.read_text().split() if called.exists() else []
    if not times[0]:
        print(f"| {name} | the responses were not made in time: give more --seconds ||||||")
        return False
    p50, p99 = ([percentile(series, part) for series in times] for part in (50, 99))
    print(
        f"| {name} | {p50[0]:.2f} | {p50[1]:.2f} | {p99[0]:.2f} | {p99[1]:.2f} | {before:.1f} | {most:.1f} "
        f"| {added(endings)} |",
        flush=True,
    )
    is_quick = p99[1] <= max(options.floor, (3 if attack.limits else 2) * p99[0])
    is_small = most - before < (1.25 * BUDGET if attack.limits else options.memory)
    took_no_worker = set(paths) <= attack.may_call
    return is_quick and is_small and took_no_worker and len(endings) == attack.parts


def calls(called):
    return called.read_bytes().count(b"\n") if called.exists() else 0


def client(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=30)


def waiting_time(connection):
    """Milliseconds for one answer."""
    began = time.monotonic()
    connection.request("GET", "/")
    response = connection.getresponse()
    if response.read() != b"hello\n":
        raise ValueError(f"a wrong answer: {response.status}")
    return (time.monotonic() - began) * 1e3


def percentile(series, part):
    return sorted(series)[len(series) * part // 100]


def resident_mib(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def added(endings):
    """Counts of several processes as one text."""
    total = {}
    for counts in endings:
        for what, count in counts.items():
            total[what] = total.get(what, 0) + count
    return ", ".join(f"{count:,} {what}" for what, count in sorted(total.items()))


# Attacks: each function is one of several processes, and tells how often what happened.


def slowly(count, request, every, small_window=False):
    """So many connections in all processes that send `request`, then a byte every so many
    seconds, and read as slowly."""

    def attack(port, part, parts, until):
        with selectors.DefaultSelector() as selector:
            for _ in range(count // parts):
                connection = socket.socket()
                if small_window:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", port))
                connection.sendall(request)
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ)
            ended = 0
            while time.monotonic() < until and selector.get_map():
                time.sleep(every)
                for key in list(selector.get_map().values()):
                    try:
                        key.fileobj.send(b"x")
                        if key.fileobj.recv(1) == b"":
                            raise ConnectionResetError
                    except BlockingIOError:
                        pass
                    except OSError:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        ended += 1
            left = len(selector.get_map())
            return {"given up": ended, "still there": left}

    return attack


def together(*attacks):
    """Several at once, each in a share of the processes."""

    def attack(port, part, parts, until):
        return attacks[part % len(attacks)](port, part // len(attacks), parts // len(attacks), until)

    return attack


def uploads(count):
    """As many uploads at once as fast as they are taken; statuses are counted."""

    def attack(port, part, parts, until):
        head = f"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {UPLOAD}\r\n\r\n".encode()
        block, said = bytes(256 << 10), {}
        with selectors.DefaultSelector() as selector:
            for _ in range(count // parts):
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(head)
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, [UPLOAD])
            while selector.get_map():
                for key, events in selector.select(30):
                    outcome = None
                    try:
                        if events & selectors.EVENT_READ:
                            answer = key.fileobj.recv(4096)
                            outcome = answer[9:12].decode() or "closed"
                        elif key.data[0] > 0:
                            key.data[0] -= key.fileobj.send(block[: key.data[0]])
                        else:
                            selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                    except BlockingIOError:
                        pass
                    except OSError:
                        outcome = "reset"
                    if outcome:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        said[outcome] = said.get(outcome, 0) + 1
        return said

    return attack


def flood(frames, least=100_000):
    """Frames of HTTP/2 without a pause, on a new connection whenever one is closed: at least
    so many, and to the end. `frames` makes all of one connection."""

    def attack(port, part, parts, until):
        count, burst = frames()
        sent = connections = 0
        while time.monotonic() < until or sent < least // parts:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.settimeout(30)
            connections += 1
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(PREFACE)
                for at in range(0, len(burst), 1 << 16):
                    connection.sendall(burst[at : at + (1 << 16)])
                    sent += count * min(1 << 16, len(burst) - at) // len(burst)
        return {"frames": sent, "connections": connections}

    return attack


def crowd(burst):
    """Connections without a pause, each left as soon as the kernel has taken what it sends: unlike
    a flood, nothing that the server does holds this one back."""

    def attack(port, part, parts, until):
        connections = 0
        while time.monotonic() < until:
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(PREFACE + burst)
            connections += 1
        return {"connections": connections}

    return attack


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(*fields):
    """Literals without indexing (RFC 7541 §6.2.2)."""
    return b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


GET = block((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"h"))


def many(frame_bytes, before=b""):
    return lambda: (50_000, before + frame_bytes * 50_000)


def resets():
    one = b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, GET) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
        for stream in range(1, 50_000, 2)
    )
    return 25_000, one


def errors(streams=25_000):
    one = b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, GET) + frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff")
        for stream in range(1, 2 * streams, 2)
    )
    return streams, one


def bombs():
    """Each unpacks to 15,000 fields."""
    large = GET + b"\xba" * 15_000
    return 500, b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, large) for stream in range(1, 1000, 2))


def breathe(began):
    """Sleeps until this process has used half a core at most."""
    ahead = 2 * time.process_time() - (time.monotonic() - began)
    if ahead > 0.01:
        time.sleep(ahead)


def has_bytes(connection):
    """Whether there is something to read, or the end."""
    return bool(select.select([connection], [], [], 0)[0])


def text(value):
    """A string of HPACK, as long as it may be (RFC 7541 §5.1, §5.2)."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, bytes([127])
    while rest >= 128:
        rest, length = rest // 128, length + bytes([rest % 128 | 128])
    return length + bytes([rest]) + value


def streams(connections, per_connection, path, *more, method=b"GET", rounds=0, window=65535):
    """So many connections of HTTP/2 with so many requests each, of which no response is read beyond
    `window`, and no body is complete: it gets 7,000 bytes in each round."""
    fields = (b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"h"), *more
    head = b"".join(b"\0" + text(name) + text(value) for name, value in fields)
    flags = END_HEADERS | (0 if rounds else END_STREAM)
    settings = frame(SETTINGS, 0, 0, b"\0\4" + window.to_bytes(4, "big"))
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
    identifiers = range(1, 2 * per_connection, 2)

    def attack(port, part, parts, until):
        began, opened, given_up = time.monotonic(), [], 0
        for _ in range(connections // parts):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.sendall(start)
            opened.append(connection)
        for connection in opened:
            # The server's answer opens the connection's window.
            connection.recv(4096)
            for identifier in identifiers:
                with contextlib.suppress(OSError):
                    connection.sendall(frame(HEADERS, flags, identifier, head))
                breathe(began)
        for _ in range(rounds):
            for connection in opened:
                for identifier in identifiers:
                    with contextlib.suppress(OSError):
                        connection.sendall(frame(DATA, 0, identifier, bytes(7000)))
                    breathe(began)
                with contextlib.suppress(OSError):
                    while has_bytes(connection) and connection.recv(1 << 16):
                        pass
        while time.monotonic() < until:
            time.sleep(0.1)
        for connection in opened:
            with contextlib.suppress(OSError):
                given_up += has_bytes(connection) and not connection.recv(1, socket.MSG_PEEK)
            connection.close()
        return {"connections": connections // parts, "given up": given_up}

    return attack


def unfinished(count, request, piece):
    """So many connections of HTTP/1 with a request that has no end, `piece` bytes of it."""

    def attack(port, part, parts, until):
        began, opened = time.monotonic(), []
        for _ in range(count // parts):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            opened.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(request + piece)
            breathe(began)
        while time.monotonic() < until:
            time.sleep(0.1)
        return {"connections": len(opened)}

    return attack


SLOW_HEAD = b"GET /slow HTTP/1.1\r\nHost: h\r\nX-Slow: "
SLOW_BODY = b"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
LONG = b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n"


class Attack(typing.NamedTuple):
    """What is done, by how many processes; which paths may reach the application, and how many
    calls come before the normal client's time counts; the limits of its servers, if it is on them."""

    act: typing.Callable
    parts: int
    may_call: set = frozenset()
    made_first: int = 0
    limits: dict = {}


MEMORY = {"BUDGET": f"{BUDGET}M"}
ATTACKS = {
    "5,000 heads, a byte per 5 s": Attack(slowly(5000, SLOW_HEAD, 5), 2),
    "1,000 bodies, a byte a second": Attack(slowly(1000, SLOW_BODY, 1), 2),
    "1,000 readers, a byte a second": Attack(slowly(1000, LONG, 1, small_window=True), 2, {"/long"}, 1000),
    "1,000 slow heads, 200 bodies, 200 readers": Attack(
        together(slowly(1000, SLOW_HEAD, 1), slowly(200, SLOW_BODY, 1), slowly(200, LONG, 1, small_window=True)),
        3,
        {"/long"},
    ),
    "1,000 uploads of 100 MB, 1 GB of room": Attack(uploads(1000), 2, {"/upload"}),
    "HEADERS and RST_STREAM": Attack(flood(resets), 1, {"/"}),
    "streams that we must reset": Attack(flood(errors), 1, {"/"}),
    "a crowd that comes, sends 600 such streams and leaves": Attack(crowd(errors(600)[1]), 1, {"/"}),
    "CONTINUATION": Attack(flood(many(frame(CONTINUATION, 0, 1, b"\x40" * 100), frame(HEADERS, 0, 1, GET))), 1, {"/"}),
    "heads that unpack to 600 KB": Attack(flood(bombs), 1, {"/"}),
    "PING": Attack(flood(many(frame(PING, 0, 0, bytes(8)))), 1, {"/"}),
    "SETTINGS": Attack(flood(many(frame(SETTINGS, 0, 0))), 1, {"/"}),
    "WINDOW_UPDATE": Attack(flood(many(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"))), 1, {"/"}),
    "br: 128 streams on one connection": Attack(
        streams(1, 128, b"/long", (b"accept-encoding", b"br"), window=0), 1, {"/long"}, limits=MEMORY
    ),
    "heads of 15 KB and bodies of 63 KB, 20 × 128 streams": Attack(
        streams(20, 128, b"/upload", (b"x-large", b"x" * 15_000), method=b"POST", rounds=9), 1, limits=MEMORY
    ),
    "unread responses of 200 KB, 30 × 128 streams": Attack(
        streams(30, 128, b"/page", window=1 << 30), 1, {"/page"}, limits=MEMORY
    ),
    "1,000 unfinished heads of 125 KB": Attack(
        unfinished(1000, b"GET /slow HTTP/1.1\r\nHost: h\r\n", b"".join(b"x-%d: %s\r\n" % (at, b"x" * 3000) for at in range(41))),
        1,
        limits=MEMORY,
    ),
    "1,000 unfinished bodies of 60 KB": Attack(
        unfinished(1000, SLOW_BODY.replace(b"1000000", b"65000"), bytes(60_000)), 1, limits=MEMORY
    ),
    "uploads of 70 KB, 16 × 127 streams, 2,048 descriptors": Attack(
        streams(16, 127, b"/upload", method=b"POST", rounds=10), 1, limits={**MEMORY, "DESCRIPTORS": "2048"}
    ),
    "empty DATA": Attack(flood(many(frame(DATA, 0, 1), frame(HEADERS, END_HEADERS, 1, GET))), 1, {"/"}),
}

if __name__ == "__main__":
    sys.exit(main())
