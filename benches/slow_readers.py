#!/usr/bin/env python3
"""Many slow readers of one large file: pyserve beside nginx (sendfile on).

    cargo build --release && python3 benches/slow_readers.py

CPU seconds for a GB delivered, memory, and the latency of a small file beside the readers. Figures of
different runs or machines do not compare: the ratios of one run do.
"""

import argparse
import contextlib
import http.client
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import servers
import works

SLOW_BYTES = 256 << 10
SLOW_PAUSE_S = 0.1
LARGE, SMALL = "/static/large.bin", "/static/small.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=200, help="slow readers; default %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="each of three parts; default %(default)s")
    parser.add_argument("--pyserve", type=Path, default=servers.TARGET / "release/pyserve", help="default %(default)s")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    names = ["pyserve"] + (["nginx"] if servers.path_of("nginx") else [])
    with tempfile.TemporaryDirectory(prefix="slow_readers-") as root, contextlib.ExitStack() as stack:
        static = Path(root) / "files/static"
        static.mkdir(parents=True)
        for path, length in ((LARGE, 100 * works.MIB), (SMALL, works.KIB)):
            (static / Path(path).name).write_bytes(os.urandom(length))
        up = {}
        for name in names:
            work = Path(tempfile.mkdtemp(dir=root))
            site = servers.Site("", "", static.parent, Path(), options.pyserve.resolve(), work, servers.free_port())
            up[name] = stack.enter_context(servers.Running(servers.SERVERS[name], site))
            up[name].wait_ready(works.Work("small file", "files", {SMALL: 1}, works.KIB).verify)
        compare(up, options)


def compare(up, options):
    """Readers of 2.5 MiB/s each, and the latency of a small file beside them."""
    print(
        f"{measure.machine()}; {options.readers} slow readers of 100 MiB\n\n"
        "| server | memory MiB before | with them | CPU s/GB | 1 KiB beside them: p50 ms | p99 ms |\n"
        "|---|--:|--:|--:|--:|--:|"
    )
    for name, server in up.items():
        before = measure.memory_mib(server.pids())
        cost, memory, waits = read_slowly(server, options)
        waits.sort()
        print(
            f"| {name} | {before:.1f} | {memory:.1f} | {cost:.3f} "
            f"| {waits[len(waits) // 2] * 1e3:.2f} | {waits[len(waits) * 99 // 100] * 1e3:.2f} |",
            flush=True,
        )


def read_slowly(server, options):
    """CPU seconds for a GB, the server's memory, and the latencies of the small file."""
    port = int(server.url.rpartition(":")[2])
    request = b"GET " + LARGE.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    small = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    waits = []
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        stack.callback(small.close)
        for _ in range(options.readers):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
            reader.connect(("127.0.0.1", port))
            reader.sendall(request)
            reader.setblocking(False)
            selector.register(reader, selectors.EVENT_READ)

        def turns(meanwhile):
            """Bytes that the readers take; what ``meanwhile`` does is done in their pauses."""
            read, end = 0, time.monotonic() + options.seconds
            while time.monotonic() < end:
                turn = time.monotonic() + SLOW_PAUSE_S
                for key, _ in selector.select(0):
                    read += len(key.fileobj.recv(SLOW_BYTES))
                while time.monotonic() < turn:
                    meanwhile()
                    time.sleep(0.002)
            return read

        def ask():
            began = time.monotonic()
            small.request("GET", SMALL)
            small.getresponse().read()
            waits.append(time.monotonic() - began)

        turns(lambda: None)
        ticks = measure.cpu_ticks(server.pids())
        read = turns(lambda: None)
        spent = (measure.cpu_ticks(server.pids()) - ticks) * measure.TICK_US / 1e6
        memory = measure.memory_mib(server.pids())
        turns(ask)
    return spent / (read / measure.GB), memory, waits


if __name__ == "__main__":
    sys.exit(main())
