#!/usr/bin/env python3
"""Many keep-alive connections: the memory of an idle one, and the CPU time of a request beside them.

    cargo build --release && python3 benches/connections.py

Memory is the growth of the front's resident set. The kernel's memory for sockets is not in it. The same
number of requests goes round-robin over all connections, so that each request finds another one idle:
the CPU time of a request is the same with any number of connections. `--slots` repeats that with
1 to 64 worker threads instead.
"""

import argparse
import contextlib
import os
import re
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import measure
import servers
import works

NUMBERS = (1, 10, 100, 1_000, 10_000)
SLOTS = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 4), (1, 16), (4, 16), (1, 64))
# Requests under way: as many clients as ask at a time, however many are connected.
AT_A_TIME = 32
# One source address has 28,000 ports.
FROM_EACH_ADDRESS = 5_000
# The front drops buffers after a second, and allocators return memory at the next call.
SETTLE_S = 2
PATIENCE_S = 30
SPARE_DESCRIPTORS = 400
# ip(7); Python has no name for it.
BIND_ADDRESS_NO_PORT = 24
FILE = "/static/1.txt"
KINDS = {"application, HTTP/1": "/", "file, HTTP/1": FILE, "application, HTTP/2": "/", "nothing sent": ""}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000, help="idle ones; default %(default)s")
    parser.add_argument("--requests", type=int, default=20_000, help="of each measurement; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--slots", action="store_true", help="CPU time by number of worker threads instead")
    parser.add_argument("--only", default="", help="kinds of connections whose name contains this")
    parser.add_argument("--memory-only", action="store_true", help="without CPU time")
    parser.add_argument(
        "--pyserve", type=Path, action="append", help="several are interleaved; default target/release/pyserve"
    )
    options = parser.parse_args()
    options.pyserve = [path.resolve() for path in options.pyserve or [servers.TARGET / "release/pyserve"]]
    most = possible()
    options.connections = min(options.connections, most)
    numbers = [min(number, most // len(options.pyserve)) for number in NUMBERS]
    print(f"{measure.machine()}, {options.requests:,} requests, {AT_A_TIME} at a time, {options.rounds} rounds\n")
    if options.slots:
        return compare_slots(options)
    memory(options)
    if not options.memory_only:
        compare_numbers(options, numbers)


def possible():
    """Connections for which there are descriptors: the server keeps two for each, and some for reloads."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * NUMBERS[-1] + SPARE_DESCRIPTORS
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, most), max(wanted, most)))
        return NUMBERS[-1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return (most - SPARE_DESCRIPTORS) // 2


def memory(options):
    """A row for each kind of idle connections."""
    print("| idle connections | binary | KiB each |\n|---|---|--:|")
    for kind, path in KINDS.items():
        if options.only not in kind:
            continue
        for pyserve in options.pyserve:
            with serving(pyserve) as server:
                # Tables and threads that the first requests make are no part of a connection.
                with connected(server, 10, kind) as few:
                    ask_all(few, path, 100)
                time.sleep(SETTLE_S)
                before = resident_kib(server)
                with connected(server, options.connections, kind) as connections:
                    ask_all(connections, path, len(connections))
                    time.sleep(SETTLE_S)
                    ask_all(connections[:10], path, 100)
                    time.sleep(SETTLE_S)
                    each = (resident_kib(server) - before) / len(connections)
            print(f"| {len(connections):,}: {kind} | {pyserve} | {each:.1f} |", flush=True)
    print()


def compare_numbers(options, numbers):
    """A row for each kind, with the CPU time of a request at each number of connections."""
    print(f"| CPU µs/request | binary | {' | '.join(f'{number:,}' for number in numbers)} |")
    print(f"|---|---|{'--:|' * len(numbers)}")
    for kind, path in KINDS.items():
        if not path or options.only not in kind:
            continue
        cost = {}
        for number in numbers:
            with contextlib.ExitStack() as stack:
                up = {pyserve: stack.enter_context(serving(pyserve)) for pyserve in options.pyserve}
                open_ones = {name: stack.enter_context(connected(server, number, kind)) for name, server in up.items()}
                for name in up:
                    ask_all(open_ones[name], path, max(number, 1_000))
                for _, name in measure.rotated(list(up), options.rounds):
                    cost.setdefault((name, number), []).append(
                        cpu_us(up[name], open_ones[name], path, options.requests)
                    )
        for name in options.pyserve:
            cells = [f"{median(cost[name, number]):.1f}" for number in numbers]
            print(f"| {kind} | {name} | {' | '.join(cells)} |", flush=True)


def compare_slots(options):
    """A row for each number of workers and threads."""
    print("| workers × threads | binary | CPU µs/request | spread |\n|---|---|--:|--:|")
    for workers, threads in SLOTS:
        cost = {}
        with contextlib.ExitStack() as stack:
            up = {pyserve: stack.enter_context(serving(pyserve, workers, threads)) for pyserve in options.pyserve}
            open_ones = {name: stack.enter_context(connected(server, 64, "HTTP/1")) for name, server in up.items()}
            for name in up:
                ask_all(open_ones[name], "/", 1_000)
            for _, name in measure.rotated(list(up), options.rounds):
                cost.setdefault(name, []).append(cpu_us(up[name], open_ones[name], "/", options.requests))
        for name, found in cost.items():
            print(
                f"| {workers} × {threads} | {name} | {median(found):.1f} | {min(found):.1f}–{max(found):.1f} |",
                flush=True,
            )


def cpu_us(server, connections, path, requests):
    """CPU time of the server's processes for each of so many requests."""
    before = measure.cpu_ticks(server.pids())
    ask_all(connections, path, requests)
    return (measure.cpu_ticks(server.pids()) - before) * measure.TICK_US / requests


def resident_kib(server):
    """Resident set of the front."""
    text = Path(f"/proc/{server.pids()[0]}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1])


@contextlib.contextmanager
def serving(pyserve, workers=servers.WORKERS, threads=1):
    """A pyserve with the hello application, and a file of 1 KiB."""
    with tempfile.TemporaryDirectory(prefix="connections-") as directory:
        directory = Path(directory)
        static = directory / "files/static"
        static.mkdir(parents=True)
        (static / "1.txt").write_bytes(os.urandom(works.KIB))
        app = works.APPS["hello"]
        site = servers.Site(app.module, app.callable, app.chdir, Path(), pyserve, directory, servers.free_port())

        def start(site):
            return [[
                str(pyserve), "--bind", f"127.0.0.1:{site.port}", "--access-log", "off", "--chdir", str(site.chdir),
                "--app", site.app, "--workers", str(workers), "--threads", str(threads), "--max-connections", "10000",
                "--static", f"/static={static}", "--keepalive-timeout", "600", "--header-timeout", "600",
            ]]  # fmt: skip

        with servers.Running(start, site) as server:
            server.wait_ready(works.Work("hello", "hello", {"/": 1, FILE: 1}, r"(?s).*").verify)
            yield server


@contextlib.contextmanager
def connected(server, number, kind):
    """So many connections from several addresses of the loopback."""
    port = int(server.url.rpartition(":")[2])
    protocol = Http2 if "HTTP/2" in kind else Http1
    with contextlib.ExitStack() as stack:
        connections = []
        for at in range(number):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            connection.bind((f"127.0.0.{2 + at // FROM_EACH_ADDRESS}", 0))
            connection.connect(("127.0.0.1", port))
            connection.setblocking(False)
            connections.append(protocol(connection))
        yield connections


def ask_all(connections, path, requests):
    """Sends so many requests round-robin, one at a time on each connection, and reads all responses."""
    if not path:
        return
    with select.epoll() as waiting:
        busy = {}
        sent = 0
        while sent < requests or busy:
            while sent < requests and len(busy) < min(AT_A_TIME, len(connections)):
                connection = connections[sent % len(connections)]
                if connection.fileno in busy:
                    break
                connection.ask(path)
                busy[connection.fileno] = connection
                waiting.register(connection.fileno, select.EPOLLIN)
                sent += 1
            ready = waiting.poll(PATIENCE_S)
            if not ready:
                raise SystemExit(f"{len(busy)} requests have no response")
            for fileno, _ in ready:
                if busy[fileno].has_response():
                    waiting.unregister(fileno)
                    del busy[fileno]


class Http1:
    """A connection that sends one request after the other."""

    def __init__(self, connection):
        self.connection, self.fileno = connection, connection.fileno()
        self.received = b""

    def ask(self, path):
        self.received = b""
        self.connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def has_response(self):
        part = self.connection.recv(65536)
        if not part:
            raise SystemExit("a connection was closed")
        self.received += part
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a wrong response: {head[:200]}")
        return len(body) >= int(re.search(rb"(?i)content-length: (\d+)", head)[1])


class Http2:
    """The same over HTTP/2 with prior knowledge (RFC 9113 §3.3)."""

    HEADERS, SETTINGS, PING, GOAWAY, DATA = 1, 4, 6, 7, 0
    END_HEADERS, END_STREAM, ACK = 4, 1, 1

    def __init__(self, connection):
        self.connection, self.fileno = connection, connection.fileno()
        self.received, self.stream = b"", -1
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(self.SETTINGS, 0, 0, b""))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def ask(self, path):
        self.stream += 2
        # RFC 7541: `GET`, `http`, then literals without indexing of `:path` and `:authority`.
        block = b"\x82\x86\x04" + bytes([len(path)]) + path.encode() + b"\x01\x09localhost"
        self.connection.send(self.frame(self.HEADERS, self.END_HEADERS | self.END_STREAM, self.stream, block))

    def has_response(self):
        part = self.connection.recv(65536)
        if not part:
            raise SystemExit("a connection was closed")
        self.received += part
        ended = False
        while len(self.received) >= 9:
            length = int.from_bytes(self.received[:3], "big")
            if len(self.received) < 9 + length:
                break
            kind, flags = self.received[3], self.received[4]
            self.received = self.received[9 + length :]
            if kind == self.GOAWAY:
                raise SystemExit("a connection was ended")
            if kind == self.SETTINGS and not flags & self.ACK:
                self.connection.send(self.frame(self.SETTINGS, self.ACK, 0, b""))
            ended |= kind in (self.HEADERS, self.DATA) and bool(flags & self.END_STREAM)
        return ended


if __name__ == "__main__":
    sys.exit(main())
