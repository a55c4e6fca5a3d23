#!/usr/bin/env python3
"""Large files: pyserve beside nginx (sendfile on), in one interleaved run.

    cargo build --release && python3 benches/large_files.py

Whole files and ranges by wrk, and many slow readers of one file while a small file is asked for.
What counts is CPU seconds for a GB delivered, and memory with the slow readers there. Figures of
different runs or machines do not compare: the ratios of one run do.
"""

import argparse
import contextlib
import http.client
import os
import platform
import re
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import measure
import servers

TOP = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target").resolve()
MIB = 1 << 20
GB = 1_000_000_000
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
SLOW_BYTES = 256 << 10
SLOW_PAUSE_S = 0.1


def pyserve(site):
    return [[
        str(site.pyserve), "--root", str(site.chdir), "--chdir", str(site.chdir),
        "--bind", f"127.0.0.1:{site.port}", "--access-log", "off",
    ]]  # fmt: skip


def nginx(site):
    conf = site.work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(site=site, work=site.work, user=user))
    return [[servers.nginx_path(), "-p", str(site.work), "-c", str(conf), "-e", "stderr"]]


SERVERS = {"nginx": nginx, "pyserve": pyserve}


class Work:
    """One kind of load: what is asked for, and what shows that the answer is right."""

    def __init__(self, path, range_=None, length=0, connections=4):
        self.path, self.range, self.length, self.connections = path, range_, length, connections

    def verify(self, url):
        fields = {"Range": self.range} if self.range else {}
        connection = http.client.HTTPConnection(url.partition("//")[2], timeout=10)
        with contextlib.closing(connection):
            for _ in range(2):
                connection.request("GET", self.path, headers=fields)
                response = connection.getresponse()
                body = response.read()
                if response.status != (206 if self.range else 200) or len(body) != self.length:
                    raise ValueError(f"a wrong answer: {response.status}, {len(body)} bytes")


WORK = {
    "100 MiB": Work("/static/large.bin", length=100 * MIB),
    "1 MiB": Work("/static/middle.bin", length=MIB),
    "10 MiB out of 100 MiB": Work("/static/large.bin", f"bytes={33 * MIB + 7}-{43 * MIB + 6}", 10 * MIB),
    "256 KiB out of 100 MiB": Work("/static/large.bin", f"bytes={50 * MIB + 1}-{50 * MIB + (256 << 10)}", 256 << 10),
}


PROOF = Work("/static/small.txt", length=1024)


def main():
    options = parse()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    servers.SERVERS.update(SERVERS)
    names = [name for name in SERVERS if name != "nginx" or servers.nginx_path() != "nginx"]
    if len(names) < len(SERVERS):
        print("skipped: nginx because it is not installed", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="large_files-") as work, contextlib.ExitStack() as stack:
        root = Path(work) / "root"
        for name, length in (("large.bin", 100 * MIB), ("middle.bin", MIB), ("small.txt", 1024)):
            write(root / "static" / name, length)
        start = lambda name: servers.of_files(name, root, options.pyserve, Path(work), PROOF.verify)
        running = {name: stack.enter_context(start(name)) for name in names}
        print(heading(options), flush=True)
        failed = sum(compare(kind, WORK[kind], running, options) for kind in options.only or WORK)
        if not options.only:
            slow_readers(running, options)
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=WORK, help="this work; repeatable")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of one server in one round; default %(default)s")
    parser.add_argument("--readers", type=int, default=200, help="slow readers; default %(default)s")
    parser.add_argument("--pyserve", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    return parser.parse_args()


def write(path, length):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(length))


def compare(kind, work, running, options):
    """The rounds of one kind of load; how many servers failed."""
    costs = {name: [] for name in running}
    rates = {name: [] for name in running}
    wrong = {}
    for number in range(options.rounds):
        first = number % len(running)
        names = list(running)
        for name in names[first:] + names[:first]:
            if name in wrong:
                continue
            try:
                if number == 0:
                    work.verify(running[name].url)
                cost, rate = load(work, running[name], options.seconds)
            except (OSError, ValueError, RuntimeError) as error:
                wrong[name] = str(error)
                continue
            costs[name].append(cost)
            rates[name].append(rate)
    print(f"\n## {kind}\n\n| server | CPU s/GB (range) | GB/s | CPU ÷ nginx |\n|---|--:|--:|--:|")
    for name in running:
        if name in wrong:
            print(f"| {name} | {wrong[name]} | | |")
            continue
        reference = costs.get("nginx")
        ratio = f"{median(costs[name]) / median(reference):.2f}" if reference else "–"
        spread = f"{min(costs[name]):.3f}–{max(costs[name]):.3f}"
        print(f"| {name} | {median(costs[name]):.3f} ({spread}) | {median(rates[name]):.2f} | {ratio} |")
    sys.stdout.flush()
    return len(wrong)


def load(work, server, seconds):
    """Runs wrk; CPU seconds for a GB, and GB per second."""
    before = measure.cpu_ticks(server.pids())
    command = ["wrk", "--threads=1", f"--connections={work.connections}", f"--duration={seconds}s", "--timeout=10s"]
    fields = ["--header", f"Range: {work.range}"] if work.range else []
    run = subprocess.run(
        [*command, *fields, server.url + work.path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds + 60,
    )  # fmt: skip
    after = measure.cpu_ticks(server.pids())
    if run.returncode != 0 or measure.failures(run.stdout):
        raise RuntimeError(f"wrk: {run.stderr.strip() or run.stdout.strip()}")
    duration, amount, unit = re.search(r"requests in ([\d.]+)s, ([\d.]+)(\w+) read", run.stdout).groups()
    gigabytes = float(amount) * UNITS[unit] / GB
    spent = sum(ticks - before.get(process, 0) for process, ticks in after.items()) * measure.TICK_US / 1e6
    return spent / gigabytes, gigabytes / float(duration)


def slow_readers(running, options):
    """Readers of 2.5 MiB/s each, and how long a small file takes beside them."""
    print(
        f"\n## {options.readers} slow readers of 100 MiB\n\n"
        "| server | memory MiB before | with them | CPU s/GB | 1 KiB beside them: p50 ms | p99 ms |\n"
        "|---|--:|--:|--:|--:|--:|"
    )
    for name, server in running.items():
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
    return spent / (read / GB), memory, waits


def heading(options):
    return (
        f"# Large files\n\n{len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}; wrk on the same CPUs; "
        f"medians of {options.rounds} rounds of {options.seconds} s."
    )


NGINX_CONF = """\
{user}
worker_processes 2;
daemon off;
pid {work}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    open_file_cache max=100;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{site.port} backlog=1024;
        root {site.chdir};
    }}
}}
"""

if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("without wrk nothing can be measured")
    sys.exit(main())
