#!/usr/bin/env python3
"""Small files: pyserve beside nginx, with and without open_file_cache, in one interleaved run.

    cargo build --release && python3 benches/small_files.py

What counts is CPU time for a request. Figures of different runs or machines do not compare: the
ratios of one run do.
"""

import argparse
import contextlib
import gzip
import http.client
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import measure
import servers

TOP = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target").resolve()
MANY = 1000
KIB = 1024


def pyserve(site):
    return [[
        str(site.pyserve), "--root", str(site.chdir), "--chdir", str(site.chdir),
        "--bind", f"127.0.0.1:{site.port}", "--access-log", "off",
    ]]  # fmt: skip


def nginx(site, cache="open_file_cache max=10000 inactive=60s; open_file_cache_valid 1s;"):
    conf = site.work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(site=site, work=site.work, user=user, cache=cache))
    return [[servers.nginx_path(), "-p", str(site.work), "-c", str(conf), "-e", "stderr"]]


def nginx_without_cache(site):
    return nginx(site, cache="")


SERVERS = {"nginx": nginx, "nginx without open_file_cache": nginx_without_cache, "pyserve": pyserve}


class Work:
    """One kind of load: what is asked for, and what shows that the answer is right."""

    def __init__(self, path, length, status=200, fields=None, script=None):
        self.path, self.length, self.status, self.script = path, length, status, script
        self.fields = fields or {}

    def verify(self, url):
        connection = http.client.HTTPConnection(url.partition("//")[2], timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", self.path, headers=self.fields)
            response = connection.getresponse()
            body = response.read()
            if response.status != self.status or len(body) != self.length:
                raise ValueError(f"a wrong answer: {response.status}, {len(body)} bytes")


DATE = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
ZIPPED = gzip.compress(b"body { margin: 0 }\n" * 1000)
SCRIPT = f"""\
local number = 0
request = function()
    number = (number + 1) % {MANY}
    return wrk.format("GET", "/static/many/" .. number .. ".txt")
end
"""

WORK = {
    "1 KiB": Work("/static/1.txt", KIB),
    "16 KiB": Work("/static/16.txt", 16 * KIB),
    "304": Work("/static/1.txt", 0, 304, DATE),
    "range of 1 KiB out of 16 KiB": Work("/static/16.txt", KIB, 206, {"Range": "bytes=1000-2023"}),
    "gzip neighbour": Work("/static/style.css", len(ZIPPED), 200, {"Accept-Encoding": "gzip"}),
    f"{MANY} files of 4 KiB": Work("/static/many/7.txt", 4 * KIB, script=SCRIPT),
}


PROOF = Work("/static/1.txt", KIB)


def main():
    options = parse()
    servers.SERVERS.update(SERVERS)
    names = [name for name in SERVERS if name == "pyserve" or servers.nginx_path() != "nginx"]
    if len(names) < len(SERVERS):
        print("skipped: nginx because it is not installed", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="small_files-") as work, contextlib.ExitStack() as stack:
        static = Path(work) / "root/static"
        (static / "many").mkdir(parents=True)
        (static / "1.txt").write_bytes(os.urandom(KIB))
        (static / "16.txt").write_bytes(os.urandom(16 * KIB))
        (static / "style.css").write_bytes(gzip.decompress(ZIPPED))
        (static / "style.css.gz").write_bytes(ZIPPED)
        for number in range(MANY):
            (static / f"many/{number}.txt").write_bytes(os.urandom(4 * KIB))
        start = lambda name: servers.of_files(name, static.parent, options.pyserve, Path(work), PROOF.verify)
        running = {name: stack.enter_context(start(name)) for name in names}
        print(
            f"# Small files\n\n{len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}; wrk on the same "
            f"CPUs, {options.connections} connections; medians of {options.rounds} rounds of {options.seconds} s."
        )
        failed = sum(compare(kind, WORK[kind], running, options, Path(work)) for kind in options.only or WORK)
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=WORK, help="this work; repeatable")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of one server in one round; default %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="default %(default)s")
    parser.add_argument("--pyserve", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    return parser.parse_args()


def compare(kind, work, running, options, directory):
    """The rounds of one kind of load; how many servers failed."""
    figures = {name: [] for name in running}
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
                figures[name].append(load(work, running[name], options, directory))
            except (OSError, ValueError, RuntimeError) as error:
                wrong[name] = str(error)
    print(f"\n## {kind}\n\n| server | CPU µs/request (range) | requests/s | p99 ms | CPU ÷ nginx |\n|---|--:|--:|--:|--:|")
    for name in running:
        if name in wrong:
            print(f"| {name} | {wrong[name]} | | | |")
            continue
        costs, rates, p99s = zip(*figures[name], strict=True)
        reference = [cost for cost, _, _ in figures.get("nginx", [])]
        ratio = f"{median(costs) / median(reference):.2f}" if reference else "–"
        spread = f"{min(costs):.1f}–{max(costs):.1f}"
        print(f"| {name} | {median(costs):.1f} ({spread}) | {median(rates):,.0f} | {median(p99s):.2f} | {ratio} |")
    sys.stdout.flush()
    return len(wrong)


def load(work, server, options, directory):
    """Runs wrk; CPU µs for a request, requests per second, and the 99th percentile in ms."""
    command = [
        "wrk", "--threads=1", f"--connections={options.connections}", f"--duration={options.seconds}s",
        "--timeout=10s", "--latency",
    ]  # fmt: skip
    for name, value in work.fields.items():
        command += ["--header", f"{name}: {value}"]
    if work.script:
        script = directory / "script.lua"
        script.write_text(work.script)
        command += ["--script", str(script)]
    before = measure.cpu_ticks(server.pids())
    run = subprocess.run(
        [*command, server.url + work.path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=options.seconds + 60,
    )  # fmt: skip
    after = measure.cpu_ticks(server.pids())
    if run.returncode != 0 or measure.failures(run.stdout):
        raise RuntimeError(f"wrk: {run.stderr.strip() or run.stdout.strip()}")
    requests = int(measure.found(r"(\d+) requests in", run.stdout))
    spent = sum(ticks - before.get(process, 0) for process, ticks in after.items()) * measure.TICK_US
    return (
        spent / max(requests, 1),
        float(measure.found(r"Requests/sec:\s+([\d.]+)", run.stdout)),
        measure.milliseconds(measure.found(r"(?m)^ +99%\s+(\S+)", run.stdout)),
    )


NGINX_CONF = """\
{user}
worker_processes auto;
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
    gzip_static on;
    {cache}
    types {{ text/plain txt; text/css css; }}
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{site.port} backlog=1024;
        root {site.chdir};
        if_modified_since before;
    }}
}}
"""

if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("without wrk nothing can be measured")
    sys.exit(main())
