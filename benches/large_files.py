#!/usr/bin/env python3
"""Large files: pyserve beside nginx (sendfile on), in one interleaved run.

    cargo build --release && python3 benches/large_files.py

Whole files and ranges by wrk, and many slow readers of one file while a small file is asked for.
With ``--overlay`` the files are where those of a container image are.
What counts is CPU seconds for a GB delivered, and memory with the slow readers there. Figures of
different runs or machines do not compare: the ratios of one run do.
"""

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
import static_files
from static_files import Work

MIB = 1 << 20
SLOW_BYTES = 256 << 10
SLOW_PAUSE_S = 0.1
SERVERS = {"nginx": static_files.nginx("open_file_cache max=100;"), "pyserve": static_files.pyserve}
COLUMNS = [("CPU s/GB", "cpu_s_per_gb", ".3f"), ("GB/s", "gb_per_s", ".2f")]


def part(first, length):
    """A range out of the large file."""
    return Work("/static/large.bin", length, 206, {"Range": f"bytes={first}-{first + length - 1}"})


WORK = {
    "100 MiB": Work("/static/large.bin", 100 * MIB),
    "1 MiB": Work("/static/middle.bin", MIB),
    "10 MiB out of 100 MiB": part(33 * MIB + 7, 10 * MIB),
    "256 KiB out of 100 MiB": part(50 * MIB + 1, 256 << 10),
}


def main():
    parser = static_files.parser(__doc__, WORK)
    parser.add_argument("--readers", type=int, default=200, help="slow readers; default %(default)s")
    parser.add_argument("--connections", type=int, default=4, help="default %(default)s")
    parser.add_argument("--overlay", action="store_true", help="files on overlay, as in a container image; needs root")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory(prefix="large_files-") as root, contextlib.ExitStack() as mounted:
        plant(Path(root) / "static", mounted, options.overlay)
        with static_files.running(SERVERS, Path(root), options, Work("/static/small.txt", 1024)) as up:
            print(
                f"# Large files\n\n{measure.machine()}; wrk on the same CPUs; "
                f"medians of {options.rounds} rounds of {options.seconds} s.",
                flush=True,
            )
            failed = sum(
                static_files.compare(kind, WORK[kind], up, options.connections, COLUMNS, options)
                for kind in options.only or WORK
            )
            if not options.only:
                slow_readers(up, options)
    return 1 if failed else 0


def plant(static, mounted, overlay):
    """The files that are asked for; on overlay they are in its lower layer."""
    static.mkdir()
    place = static
    if overlay:
        place, upper, work = (static.with_name(name) for name in ("lower", "upper", "work"))
        for directory in (place, upper, work):
            directory.mkdir()
    for name, length in (("large.bin", 100 * MIB), ("middle.bin", MIB), ("small.txt", 1024)):
        (place / name).write_bytes(os.urandom(length))
    if overlay:
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, static], check=True)
        mounted.callback(subprocess.run, ["umount", "-l", static], check=True)


def slow_readers(up, options):
    """Readers of 2.5 MiB/s each, and how long a small file takes beside them."""
    print(
        f"\n## {options.readers} slow readers of 100 MiB\n\n"
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
    """CPU seconds for a GB, the server's memory, and the times of the small file."""
    port = int(server.url.rpartition(":")[2])
    request = b"GET /static/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
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
            small.request("GET", "/static/small.txt")
            small.getresponse().read()
            waits.append(time.monotonic() - began)

        turns(lambda: None)
        ticks = sum(measure.cpu_ticks(server.pids()).values())
        read = turns(lambda: None)
        spent = (sum(measure.cpu_ticks(server.pids()).values()) - ticks) * measure.TICK_US / 1e6
        memory = measure.memory_mib(server.pids())
        turns(ask)
    return spent / (read / measure.GB), memory, waits


if __name__ == "__main__":
    sys.exit(main())
