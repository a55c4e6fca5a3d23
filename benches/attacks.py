#!/usr/bin/env python3
"""Attacks in full size, and what they cost the server and a normal client.

    cargo build --release && python3 benches/attacks.py

Each attack runs in processes of its own for `--seconds`, longer if it is not over. All of them together get half a core: beyond
it they are stopped for a while. Meanwhile a normal client asks the attacked server and, in turns, one that is left alone and shares
its CPUs: what counts are the percentiles of one beside those of the other, the memory of pyserve itself (resident, at its highest),
what it logs, and whether a worker was taken. A thousand readers first have the application make 4 GB, and the normal client's requests
stand in one line with theirs: there its time counts from when all of them have been called. `tests/floods.rs` and
`tests/memory_budget.rs` check the same with smaller numbers. With `--tls` all of it is inside of TLS sessions, and there are two attacks
by handshakes more. In attacks on the memory budget (`--budget`) and on descriptors
(`ulimit -n 2048`) the normal client makes a new connection for every tenth request.

Of each attack the run with the median p99 of `--repeat` counts. Exits with 1 where

- the attacked client's p99 is over three times the other's, and over `--floor` or what the attack says,
- resident memory has grown by more than 1.25 times the budget (`--budget`, repeatable),
- 2 MB or more are logged, or a slow sender got a worker.
"""

import argparse
import contextlib
import http.client
import multiprocessing
import os
import resource
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import typing
from pathlib import Path

import backends
import measure
import servers

# Times shorter than the defaults, so that a run sees clients being given up.
LIMITS = ["--header-timeout", "10", "--body-timeout", "10", "--max-spool", "1G"]
# The attackers' share of a core, and how often it is looked at.
SHARE, LOOK = 0.5, 0.01
# Most bytes that an attack may have logged.
LOGGED = 2_000_000
# The address of attackers that are not the normal client's neighbours.
OTHER_ADDRESS = "127.0.0.2"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5)
UPLOAD = 100_000_000
# What the application answers to `/long`.
LONG_BODY = 4 << 20
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def main():
    options = parse()
    if options.tls:
        return with_tls(options)
    return attacks(options)


def with_tls(options):
    with tempfile.TemporaryDirectory(prefix="attacks-") as work:
        Secure.make(Path(work))
        return attacks(options)


def attacks(options):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(
        f"# Attacks{' over TLS' if options.tls else ''}\n\n{measure.machine()}; each {options.seconds} s or longer.\n\n"
        "| attack | budget MiB | p50 ms, alone | attacked | p99 ms, alone | attacked | memory MiB, before | at most | log KB | attackers' CPU | ended |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
        flush=True,
    )
    budgets = options.budget or [64]
    failed = [
        f"{name} ({budget} MiB)"
        for budget in budgets
        for name in options.only or {**ATTACKS, **(TLS_ATTACKS if options.tls else {})}
        if not median(name, argparse.Namespace(**{**vars(options), "budget": budget}))
    ]
    if failed:
        print("\ntoo costly: " + "; ".join(failed))
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices={**ATTACKS, **TLS_ATTACKS}, help="this attack; repeatable")
    parser.add_argument("--tls", action="store_true", help="inside of TLS sessions")
    parser.add_argument("--seconds", type=float, default=20, help="of one attack; default %(default)s")
    parser.add_argument("--floor", type=float, default=5, help="ms that are the scheduler's; default %(default)s")
    parser.add_argument("--budget", type=int, action="append", help="MiB of --memory-budget; repeatable; default 64")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each attack; default %(default)s")
    parser.add_argument(
        "--pyserve", type=Path, default=servers.TARGET / "release/pyserve", help="default %(default)s"
    )
    return parser.parse_args()


def pyserve(site):
    # `sh` leaves its process to the server.
    limited = f'ulimit -n {site.env.get("DESCRIPTORS")} && exec "$0" "$@"'
    more = (site.env.get("ARGUMENTS") or "--threads 2").split()
    return [[
        *(["sh", "-c", limited] if "DESCRIPTORS" in site.env else []),
        str(site.pyserve), "--memory-budget", site.env["BUDGET"], "--app", "attacked", "--chdir", str(site.chdir), *bind(site.port),
        "--workers", "2", "--access-log", "off", "--control", "off", "--config", str(config(site)), *LIMITS, *more,
    ]]  # fmt: skip


def bind(port):
    if not Secure.context:
        return ["--bind", f"127.0.0.1:{port}"]
    return ["--bind", f"https://127.0.0.1:{port}", "--tls-cert", str(Secure.cert), "--tls-key", str(Secure.key)]


class Secure(ssl.SSLSocket):
    """A session with the errors of a socket that does not block; its settings are None without `--tls`."""

    context = cert = key = None

    @classmethod
    def make(cls, work):
        cls.cert, cls.key = work / "cert.pem", work / "key.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-keyout", cls.key, "-out", cls.cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        cls.context = cls.settings()

    @classmethod
    def settings(cls, *protocols):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.sslsocket_class = cls
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def recv(self, length=1024, flags=0):
        # Sessions have no flags; those who look ahead read no more.
        try:
            return super().recv(length)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def send(self, data, flags=0):
        try:
            return super().send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLError as error:
            raise ConnectionResetError from error


def secure(connection, start=b""):
    """The connection, with `--tls` inside of a session for the protocol of these bytes."""
    if not Secure.context:
        return connection
    is_http2 = start.startswith(PREFACE[:24])
    context = Secure.settings("h2") if is_http2 else Secure.context
    try:
        return context.wrap_socket(connection)
    except ssl.SSLError as error:
        raise ConnectionResetError from error


def config(site):
    """A file of settings with locations for large files and for servers behind."""
    (site.work / "files").mkdir(exist_ok=True)
    with open(site.work / "files/long", "wb") as long:
        long.truncate(60 << 20)
    http, uwsgi = site.env["BACKENDS"].split()
    locations = (
        ("/files", f'static = "{site.work}/files"'),
        ("/http", f'upstream = "http://127.0.0.1:{http}"'),
        ("/uwsgi", f'upstream = "uwsgi://127.0.0.1:{uwsgi}"'),
    )
    path = site.work / "pyserve.toml"
    path.write_text("".join(f'[[location]]\nprefix = "{prefix}"\n{what}\n' for prefix, what in locations))
    return path


@contextlib.contextmanager
def serving(options, attack):
    """A server, its port, and the file of the paths that were called."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as work, backends.serving() as ports:
        called = Path(work) / "called"
        site = servers.Site(
            "", "", servers.TOP / "benches/apps", Path(), options.pyserve.resolve(), Path(work),
            servers.free_port(), {
                "CALLED": str(called), "PYTHONDONTWRITEBYTECODE": "1", "BUDGET": f"{options.budget}M",
                "BACKENDS": " ".join(map(str, ports)), **attack.limits,
            },
        )  # fmt: skip
        server = servers.Running(pyserve, site)
        try:
            server.wait_ready(lambda _url: waiting_time(client(site.port)))
            yield server, site.port, called
        finally:
            server.stop()


def median(name, options):
    """Runs an attack so often, and prints the line of the median; whether that cost as little as it should."""
    runs = sorted((run(name, options) for _ in range(options.repeat)), key=lambda made: made[0])
    _, is_good, line = runs[len(runs) // 2]
    print(line, flush=True)
    return is_good


def run(name, options):
    """One attack: the p99 of the client that is attacked, whether it cost as little as it should, its line."""
    attack = {**ATTACKS, **TLS_ATTACKS}[name]
    with serving(options, attack) as (server, port, called), serving(options, attack) as (_, quiet_port, _):
        attacked, alone = client(port), client(quiet_port)
        for _ in range(200):
            waiting_time(attacked), waiting_time(alone)
        before = most = resident_mib(server.processes[0].pid)
        logged = server.log.stat().st_size
        until = time.monotonic() + options.seconds
        said = multiprocessing.SimpleQueue()
        attackers = [
            multiprocessing.Process(target=lambda part=part: said.put(attack.act(port, part, attack.parts, until)))
            for part in range(attack.parts)
        ]
        for attacker in attackers:
            attacker.start()
        holder = Holder(attackers)
        times, counts = ([], []), False
        while time.monotonic() < until or any(attacker.is_alive() for attacker in attackers):
            pair = waiting_time(alone), waiting_time(attacked)
            counts = counts or calls(called) >= attack.made_first
            if counts:
                times[0].append(pair[0])
                times[1].append(pair[1])
            most = max(most, resident_mib(server.processes[0].pid))
            if attack.limits and len(times[0]) % 10 == 0:
                attacked, alone = client(port), client(quiet_port)
            # Not to be an attack of its own.
            time.sleep(0.005)
        holder.join()
        for attacker in attackers:
            attacker.join()
        endings = [said.get() for attacker in attackers if attacker.exitcode == 0]
        paths = called.read_text().split() if called.exists() else []
        logged = server.log.stat().st_size - logged
    if not times[0]:
        return float("inf"), False, f"| {name} | the responses were not made in time: give more --seconds |||||||||"
    p50, p99 = ([percentile(series, part) for series in times] for part in (50, 99))
    breaks = [
        what
        for what, is_broken in (
            ("p99", p99[1] > max(options.floor, attack.floor, 3 * p99[0])),
            ("memory", most - before > 1.25 * options.budget),
            ("log", logged > LOGGED),
            ("took a worker", not set(paths) <= attack.may_call),
            ("an attacker failed", len(endings) != attack.parts),
        )
        if is_broken
    ]
    line = (
        f"| {name} | {options.budget} | {p50[0]:.2f} | {p50[1]:.2f} | {p99[0]:.2f} | {p99[1]:.2f} | {before:.1f} | {most:.1f} "
        f"| {logged / 1000:.0f} | {holder.share:.2f} | {added(endings)}{' **' + ', '.join(breaks) + '**' if breaks else ''} |"
    )
    return p99[1], not breaks, line


class Holder(threading.Thread):
    """Stops processes for a while whenever they have used more than their share of a core."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes, self.share = processes, 0.0
        self.start()

    def run(self):
        began, is_stopped = time.monotonic(), False
        while any(process.is_alive() for process in self.processes):
            time.sleep(LOOK)
            used, passed = sum(cpu_seconds(process.pid) for process in self.processes), time.monotonic() - began
            self.share = max(self.share * (used == 0), used / passed)
            if is_stopped != (used > SHARE * passed):
                is_stopped = not is_stopped
                for process in self.processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGSTOP if is_stopped else signal.SIGCONT)


def cpu_seconds(pid):
    """CPU time of a process; 0 when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def calls(called):
    return called.read_bytes().count(b"\n") if called.exists() else 0


def client(port):
    if Secure.context:
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=Secure.context)
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
                connection = secure(connection)
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
                connection = secure(socket.create_connection(("127.0.0.1", port)))
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
            with contextlib.suppress(ConnectionError, ssl.SSLError), secure(connection, PREFACE) as connection:
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
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                with secure(socket.create_connection(("127.0.0.1", port)), PREFACE) as connection:
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
    is_buffered = isinstance(connection, Secure) and connection.pending()
    return bool(is_buffered or select.select([connection], [], [], 0)[0])


def text(value):
    """A string of HPACK, as long as it may be (RFC 7541 §5.1, §5.2)."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, bytes([127])
    while rest >= 128:
        rest, length = rest // 128, length + bytes([rest % 128 | 128])
    return length + bytes([rest]) + value


def streams(connections, per_connection, path, *more, method=b"GET", rounds=0, window=65535, piece=7000, pause=0):
    """So many connections of HTTP/2 with so many requests each, of which no response is read beyond
    `window`, and no body is complete: it gets `piece` bytes in each round, and `pause` seconds lie between two."""
    fields = (b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"h"), *more
    head = b"".join(b"\0" + text(name) + text(value) for name, value in fields)
    flags = END_HEADERS | (0 if rounds else END_STREAM)
    settings = frame(SETTINGS, 0, 0, b"\0\4" + window.to_bytes(4, "big"))
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
    identifiers = range(1, 2 * per_connection, 2)

    def attack(port, part, parts, until):
        began, opened, given_up = time.monotonic(), [], 0
        for _ in range(connections // parts):
            connection = secure(socket.create_connection(("127.0.0.1", port), timeout=10), start)
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
            time.sleep(pause)
            for connection in opened:
                for identifier in identifiers:
                    with contextlib.suppress(OSError):
                        connection.sendall(frame(DATA, 0, identifier, bytes(piece)))
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


def malformed():
    """Requests with a field name that RFC 9113 §8.2 forbids and a target of 3.7 KB, which the first one puts into the table."""
    start = b"\x44" + text(b"/" + b"x" * 3700)
    rest = block((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"h"), (b"Upper", b"case"))
    blocks = [(start if stream == 1 else b"\xbe") + rest for stream in range(1, 10_000, 2)]
    flags = END_HEADERS | END_STREAM
    return 5000, b"".join(frame(HEADERS, flags, 2 * at + 1, block) for at, block in enumerate(blocks))


def unread(connections, path, per_connection=0, window=1, receive=4096):
    """So many connections from up to 600 addresses that read nothing: over HTTP/2 with so many requests, each with this
    window; else over HTTP/1."""
    fields = block((b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h"))
    start = PREFACE[:24] + frame(SETTINGS, 0, 0, b"\0\4" + window.to_bytes(4, "big")) + frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
    start += b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, fields) for at in range(per_connection))
    request = start if per_connection else b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path

    def attack(port, part, parts, until):
        began, opened = time.monotonic(), []
        for at in range(part, connections, parts):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            connection.bind((f"127.0.{1 + at // 200 % 3}.{1 + at % 200}", 0))
            connection.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):
                connection = secure(connection, request)
                connection.sendall(request)
            opened.append(connection)
            breathe(began)
        while time.monotonic() < until:
            time.sleep(0.1)
        return {"connections": len(opened)}

    return attack


def readers(addresses, each, path):
    """A connection from each of so many addresses that asks so often, and reads as fast as it may."""
    request = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path

    def attack(port, part, parts, until):
        answers, buffer = 0, bytearray(1 << 20)
        with selectors.DefaultSelector() as selector:
            for at in range(part, addresses, parts):
                connection = secure(connect(port, f"127.0.1.{1 + at}"), request)
                connection.sendall(request)
                connection.setblocking(False)
                # Bytes of this answer, its head counted as well, and answers to come.
                selector.register(connection, selectors.EVENT_READ, [0, each])
            while time.monotonic() < until and selector.get_map():
                for key, _events in selector.select(0.1):
                    connection, state = key.fileobj, key.data
                    try:
                        length = connection.recv_into(buffer)
                    except BlockingIOError:
                        continue
                    except OSError:
                        length = 0
                    state[0] += length
                    if state[0] >= LONG_BODY:
                        answers += 1
                        state[:] = [0, state[1] - 1]
                    if length == 0 or state[1] == 0:
                        selector.unregister(connection)
                        connection.close()
                    elif state[0] == 0:
                        # The last bytes of the answer, as many as its head has, count as the next one's.
                        connection.setblocking(True)
                        connection.sendall(request)
                        connection.setblocking(False)
        return {"answers": answers}

    return attack


# 100 clients of equal right: one waits for its turn among them, which is 100 responses of 4 MiB long. Shares of time
# in place of turns would make long requests wait for hundreds of short ones of others.
ROUND = 1500


def unread_responses():
    """Attacks by readers of responses from every source."""
    sources = {
        "file": (b"/files/long", None, set()),
        "application": (b"/long", b"/upload", {"/long", "/upload"}),
        "HTTP server": (b"/http/3000000", b"/http/3000", set()),
        "uwsgi server": (b"/uwsgi/3000000", b"/uwsgi/3000", set()),
    }
    for source, (long, short, may_call) in sources.items():
        yield f"{source}: 300 unread over HTTP/1", Attack(unread(300, long), 1, may_call, limits=MEMORY)
        made_first = 900 if long.decode() in may_call else 0
        floor = ROUND if source == "application" else 0
        attack = Attack(unread(900, long, receive=2048), 1, may_call, made_first, MEMORY)
        yield f"{source}: 900 unread over HTTP/1", attack
        for window in (0, 1, 2**31 - 1):
            attack = Attack(unread(100, long, 100, window), 1, may_call, limits=MEMORY, floor=floor)
            yield f"{source}: 100 × 100 unread, window of {window:,}", attack
        if short:
            attack = Attack(unread(100, short, 100), 1, may_call, limits=MEMORY)
            yield f"{source}: 100 × 100 unread, short, window of 1", attack


def unread_windows(connections, streams, piece=16_384):
    """So many connections of HTTP/2 that fill their windows (1 MiB) with bodies which the application does not read."""
    fields = (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/unread"), (b":authority", b"h")

    def attack(port, part, parts, until):
        opened, waiting = [], {}
        for _ in range(connections // parts):
            connection = secure(connect(port), PREFACE)
            connection.sendall(PREFACE)
            # The settings of the server and its WINDOW_UPDATE.
            connection.recv(4096)
            connection.sendall(frame(SETTINGS, 1, 0))
            heads = b"".join(frame(HEADERS, END_HEADERS, 2 * at + 1, block(*fields)) for at in range(streams))
            each = (1 << 20) // streams // piece
            bodies = b"".join(frame(DATA, 0, 2 * at + 1, bytes(piece)) * each for at in range(streams))
            connection.setblocking(False)
            waiting[connection] = memoryview(heads + bodies)
            opened.append(connection)
        sent = 0
        while time.monotonic() < until:
            for connection, rest in list(waiting.items()):
                with contextlib.suppress(BlockingIOError):
                    try:
                        count = connection.send(rest)
                    except ConnectionError:
                        count = len(rest)
                    sent += count
                    waiting[connection] = rest[count:]
                    if count == len(rest):
                        del waiting[connection]
            time.sleep(0.02)
        return {"connections": len(opened), "MB sent": sent // 1_000_000}

    return attack


def often(count, request, end=None, address=None):
    """So many connections at a time that ask without a pause; with `end` each is half-closed behind its request, or closed, and
    replaced."""

    def attack(port, part, parts, until):
        answers = 0

        def ask(selector):
            connection = secure(connect(port, address), request)
            connection.sendall(request)
            if end == "half":
                connection.shutdown(socket.SHUT_WR)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)

        with selectors.DefaultSelector() as selector:
            for _ in range(count // parts):
                ask(selector)
            while time.monotonic() < until:
                for key, _events in selector.select(0.1):
                    try:
                        is_over = key.fileobj.recv(1 << 16) == b"" or end is not None
                        if not is_over:
                            key.fileobj.send(request)
                    except BlockingIOError:
                        continue
                    except OSError:
                        is_over = True
                    answers += 1
                    if is_over:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        with contextlib.suppress(OSError):
                            ask(selector)
        return {"answers": answers}

    return attack


def idle(count, request=b"", address=None):
    """So many connections that ask once, or say nothing, and stay."""

    def attack(port, part, parts, until):
        opened = []
        for _ in range(count // parts):
            connection = connect(port, address)
            if request:
                connection = secure(connection, request)
                connection.sendall(request)
                connection.recv(4096)
            opened.append(connection)
        while time.monotonic() < until:
            time.sleep(0.1)
        return {"connections": len(opened)}

    return attack


def refilled(count, start, address):
    """So many connections that send `start` and nothing more; each that is closed is replaced."""

    def attack(port, part, parts, until):
        opened = closed = 0

        def fill(selector):
            with contextlib.suppress(OSError):
                connection = connect(port, address)
                if start:
                    connection = secure(connection, start)
                    connection.sendall(start)
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ)
                return 1
            return 0

        with selectors.DefaultSelector() as selector:
            while time.monotonic() < until:
                while len(selector.get_map()) < count // parts and time.monotonic() < until:
                    opened += fill(selector)
                for key, _events in selector.select(0.1):
                    with contextlib.suppress(BlockingIOError):
                        try:
                            is_over = key.fileobj.recv(1 << 16) == b""
                        except BlockingIOError:
                            raise
                        except OSError:
                            is_over = True
                        if is_over:
                            selector.unregister(key.fileobj)
                            key.fileobj.close()
                            closed += 1
        return {"opened": opened, "closed": closed}

    return attack


def connect(port, address=None):
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(address, 0) if address else None)


def unfinished(count, request, piece):
    """So many connections of HTTP/1 with a request that has no end, `piece` bytes of it."""

    def attack(port, part, parts, until):
        began, opened = time.monotonic(), []
        for _ in range(count // parts):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            with contextlib.suppress(OSError):
                connection = secure(connection)
                connection.sendall(request + piece)
            opened.append(connection)
            breathe(began)
        while time.monotonic() < until:
            time.sleep(0.1)
        return {"connections": len(opened)}

    return attack


def handshakes(is_complete):
    """Handshakes without a pause; the client leaves behind them, or behind its first message, which costs it nothing."""

    def attack(port, part, parts, until):
        context, sent = Secure.settings(), ssl.MemoryBIO()
        hello = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        hello, count = sent.read(), 0
        while time.monotonic() < until:
            with contextlib.suppress(OSError), connect(port, OTHER_ADDRESS) as connection:
                if is_complete:
                    with context.wrap_socket(connection):
                        pass
                else:
                    connection.sendall(hello)
                    connection.recv(1)
            count += 1
        return {"handshakes": count}

    return attack


SLOW_HEAD = b"GET /slow HTTP/1.1\r\nHost: h\r\nX-Slow: "
SLOW_BODY = b"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
LONG = b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n"
SHORT = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"x-%d: %s\r\n" % (at, b"x" * 600) for at in range(90)) + b"\r\n"


class Attack(typing.NamedTuple):
    """What is done, by how many processes; which paths may reach the application, and how many
    calls come before the normal client's time counts; the limits and arguments of its servers, if it is on them; the
    milliseconds that the normal client may wait in any case."""

    act: typing.Callable
    parts: int
    may_call: set = frozenset()
    made_first: int = 0
    limits: dict = {}
    floor: float = 0


# Its address has many connections, so the normal client makes new ones.
MEMORY = {"ARGUMENTS": ""}
# Threads enough for attackers that keep theirs, and bodies that the application gets as they arrive.
STREAMED = {"ARGUMENTS": "--request-buffering no --threads 150"}
FULL = {"ARGUMENTS": "--threads 2 --max-connections 1000"}
UNSAID_FULL = {"ARGUMENTS": f"{FULL['ARGUMENTS']} --proxy-protocol {OTHER_ADDRESS}"}
UNSAID = {"ARGUMENTS": f"--threads 2 --proxy-protocol {OTHER_ADDRESS}"}
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
    "malformed requests with a target of 3.7 KB": Attack(flood(malformed, 5000), 1, {"/"}),
    "unread windows of 1 MiB, 240 connections": Attack(unread_windows(240, 1), 1, {"/unread"}, limits=STREAMED),
    "unread windows of 1 MiB in frames of 300 bytes, 240 connections": Attack(
        unread_windows(240, 1, 300), 1, {"/unread"}, limits=STREAMED
    ),
    "slow uploads, 20 × 100 streams, 1 KB a second": Attack(
        streams(20, 100, b"/upload", method=b"POST", rounds=30, piece=1000, pause=1), 1, limits=MEMORY
    ),
    "slow uploads over HTTP/1, 1,000": Attack(slowly(1000, SLOW_BODY + bytes(30_000), 1), 1, limits=MEMORY),
    "readers of 4 MiB, a byte a second, 500": Attack(slowly(500, LONG, 1, small_window=True), 1, {"/long"}, 500, MEMORY),
    "unread responses of 4 MiB, 10 × 32 streams": Attack(streams(10, 32, b"/long"), 1, {"/long"}, 320, MEMORY),
    "1,500 idle connections": Attack(idle(1500, SHORT), 1, {"/"}, limits=MEMORY),
    "1,500 idle connections of HTTP/2": Attack(idle(1500, PREFACE), 1, limits=MEMORY),
    # The application reads them as well, and answers: addresses take turns there.
    "heads of 55 KB from another address": Attack(often(100, LARGE, address=OTHER_ADDRESS), 1, {"/"}, limits=MEMORY),
    "half-closed connections": Attack(often(200, SHORT, "half"), 1, {"/"}, limits=MEMORY),
    "connections that are replaced": Attack(often(200, SHORT, "whole"), 1, {"/"}, limits=MEMORY),
    # Four threads with 50 ms each: the normal client waits for one of them.
    "1,100 requests of 50 ms from another address": Attack(
        often(1100, SLOW_HEAD + b"\r\n\r\n", address=OTHER_ADDRESS), 1, {"/slow"}, limits=MEMORY, floor=150
    ),
    "10,000 responses of 4 MiB to 100 addresses": Attack(readers(100, 100, b"/long"), 1, {"/long"}, limits=MEMORY, floor=ROUND),
    "1,500 connections that never send their PROXY header": Attack(idle(1500, address=OTHER_ADDRESS), 1, limits=UNSAID),
    # The normal client waits until some of them are a tenth of a second old.
    "1,200 silent connections for 1,000 places": Attack(refilled(1200, b"", OTHER_ADDRESS), 1, limits=FULL, floor=150),
    "1,200 incomplete heads for 1,000 places": Attack(refilled(1200, SLOW_HEAD, OTHER_ADDRESS), 1, limits=FULL, floor=150),
    "1,200 connections of HTTP/2 without a request for 1,000 places": Attack(
        refilled(1200, PREFACE, OTHER_ADDRESS), 1, limits=FULL, floor=150
    ),
    "1,200 connections without their PROXY header for 1,000 places": Attack(
        refilled(1200, b"", OTHER_ADDRESS), 1, limits=UNSAID_FULL, floor=150
    ),
    # Each gets 250 ms for a request that is on its way.
    "1,200 idle connections for 1,000 places": Attack(refilled(1200, SHORT, OTHER_ADDRESS), 1, {"/"}, limits=FULL, floor=600),
    "empty DATA": Attack(flood(many(frame(DATA, 0, 1), frame(HEADERS, END_HEADERS, 1, GET))), 1, {"/"}),
    **dict(unread_responses()),
}

# With --tls alone.
TLS_ATTACKS = {
    "handshakes without a pause": Attack(handshakes(True), 2),
    "first messages of handshakes without a pause": Attack(handshakes(False), 2),
    "1,500 connections without a handshake": Attack(idle(1500, address=OTHER_ADDRESS), 1),
}

if __name__ == "__main__":
    sys.exit(main())
