#!/usr/bin/env python3
"""TLS beside nginx: the CPU time of handshakes, requests and bytes, and the memory of an idle connection.

    cargo build --release && python3 benches/tls.py

Both servers have two threads or processes, the same P-256 certificate, TLS 1.3, the group X25519 (nginx's OpenSSL may not know
X25519MLKEM768, which is measured apart, for pyserve alone), tickets, and the same files. Each round begins with the other server. What
counts are medians of CPU microseconds of the server, by /proc: of a handshake with one small request behind it on a new connection,
of a request on connections that are kept (6 bytes, 1 KiB, 1 MiB). Memory is the growth of the front's resident set, or of nginx's processes, by
connections that have had one response.
"""

import argparse
import functools
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import measure
import servers

FILES = {"hello.txt": 6, "1k.txt": 1 << 10, "1m.txt": 1 << 20}
# The goals of pyserve's CPU time in parts of nginx's, and of memory in KiB.
GOALS = {"full handshake": 1.1, "resumed handshake": 1.1, "hello": 0.9, "1 KiB": 0.9, "1 MiB": 1.2}
IDLE_GOAL = 24
SETTLE_S = 2


def main():
    options = parse()
    with tempfile.TemporaryDirectory(prefix="tls-") as work:
        work = Path(work)
        certificate(work)
        (work / "files").mkdir()
        for name, length in FILES.items():
            (work / "files" / name).write_bytes((b"hello\n" * (length // 6 + 1))[:length])
        seen = {}
        for _, name in measure.rotated(list(SERVERS), options.rounds):
            with_server(options, name, work, functools.partial(one_round, options, work, seen, name))
        memory = {name: with_server(options, name, work, functools.partial(idle, options, work)) for name in SERVERS}
    return report(options, seen, memory)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--connections", type=int, default=2000, help="idle ones; default %(default)s")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--pyserve", type=Path, default=servers.TARGET / "release/pyserve", help="default %(default)s")
    parser.add_argument("--client", type=Path, help="a build of benches/handshakes.rs; default: it is built")
    options = parser.parse_args()
    options.client = str(options.client.resolve() if options.client else built_client())
    return options


def certificate(work):
    """An authority and a certificate for localhost."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run = functools.partial(subprocess.run, cwd=work, check=True, capture_output=True)
    run(["openssl", "req", "-x509", *curve, "-days", "30", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Root"])
    run(["openssl", "req", *curve, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=localhost"])
    (work / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    run([
        "openssl", "x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "30", "-extfile", "ext", "-out", "cert.pem",
    ])  # fmt: skip


def pyserve(site):
    return [[
        str(site.pyserve), "--bind", f"https://127.0.0.1:{site.port}", "--access-log", "off", "--control", "off",
        "--front-threads", str(servers.WORKERS), "--root", str(site.chdir),
        "--static", f"/={site.chdir}", "--tls-cert", f"{site.work}/cert.pem", "--tls-key", f"{site.work}/key.pem",
    ]]  # fmt: skip


def nginx(site):
    server = (
        f"root {site.chdir}; if_modified_since before; ssl_certificate {site.work}/cert.pem; "
        f"ssl_certificate_key {site.work}/key.pem; ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519;"
    )
    [*command] = servers.nginx_command(site, servers.NGINX_FILES, server)
    conf = site.work / "nginx.conf"
    conf.write_text(conf.read_text().replace(" backlog=1024;", " ssl backlog=1024;"))
    return [command]


SERVERS = {"pyserve": pyserve, "nginx": nginx}


def with_server(options, name, work, what):
    site = servers.Site("", "", work / "files", Path(), options.pyserve.resolve(), work, servers.free_port())
    server = servers.Running(SERVERS[name], site)
    try:
        server.wait_ready(lambda _url: verify(site.port, work))
        return what(server, site.port)
    finally:
        server.stop()


def verify(port, work):
    context = ssl.create_default_context(cafile=work / "ca.pem")
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/hello.txt", context=context, timeout=5) as response:
        if response.read() != b"hello\n":
            raise ValueError("a wrong response")


def built_client():
    """The generator of handshakes, built first where that is due."""
    build = ["cargo", "build", "--release", "--locked", "--example", "handshakes"]
    if subprocess.run(build, cwd=servers.TOP, stdin=subprocess.DEVNULL).returncode != 0:
        raise SystemExit("without benches/handshakes.rs handshakes cannot be measured")
    return servers.TARGET / "release/examples/handshakes"


def handshakes(options, work, server, port, mode, *more):
    """CPU microseconds of the server for one handshake with its request."""
    pids = server.pids()
    before = measure.cpu_ticks(pids)
    printed = measure.output(
        [options.client, mode, "--address", f"127.0.0.1:{port}", "--ca", f"{work}/ca.pem", "--seconds", str(options.seconds), *more],
        options.seconds,
    )
    spent = (measure.cpu_ticks(pids) - before) * measure.TICK_US
    count, resumed = map(int, printed.split())
    if (mode == "resumed") != (resumed > count // 2):
        raise RuntimeError(f"{resumed} of {count} handshakes were resumed")
    return spent / count


def one_round(options, work, seen, name, server, port):
    def add(what, cost):
        if options.only in what:
            seen.setdefault(what, {}).setdefault(name, []).append(cost())

    shake = functools.partial(handshakes, options, work, server, port)
    add("full handshake", lambda: shake("full"))
    add("resumed handshake", lambda: shake("resumed"))
    if name == "pyserve":
        add("full handshake, X25519MLKEM768", lambda: shake("full", "--group", "x25519mlkem768"))
        add("resumed handshake, X25519MLKEM768", lambda: shake("resumed", "--group", "x25519mlkem768"))
    for what, file in (("hello", "hello.txt"), ("1 KiB", "1k.txt"), ("1 MiB", "1m.txt")):
        url = f"https://127.0.0.1:{port}/{file}"
        add(what, lambda url=url: load(url, server.pids(), options.seconds))


def load(url, pids, seconds):
    made = measure.load(url, pids, 16, seconds)
    if made.failed:
        raise RuntimeError(f"{made.failed} requests failed")
    return made.cpu_us


def idle(options, work, server, port):
    """KiB of resident memory for each idle connection."""
    time.sleep(SETTLE_S)
    before = resident_kib(server)
    command = [options.client, "idle", "--address", f"127.0.0.1:{port}", "--ca", f"{work}/ca.pem"]
    with subprocess.Popen(
        [*command, "--connections", str(options.connections)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as clients:
        if clients.stdout.readline() != "ready\n":
            raise RuntimeError("the idle connections were not made")
        time.sleep(SETTLE_S)
        grown = resident_kib(server) - before
        clients.stdin.close()
    return grown / options.connections


def resident_kib(server):
    """The resident memory of all processes of a server; pages that they share count several times before and after."""
    pids = [pid for root in server.pids() for pid in measure.tree(root)]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def report(options, seen, memory):
    print(f"# TLS\n\n{measure.machine()}, {options.rounds} rounds of {options.seconds} s; CPU µs, medians\n")
    print("| | pyserve | nginx | pyserve / nginx | goal |\n|---|--:|--:|--:|--:|")
    missed = []
    for what, runs in seen.items():
        costs = {name: median(series) for name, series in runs.items()}
        ratio = costs["pyserve"] / costs["nginx"] if "nginx" in costs else None
        goal = GOALS.get(what)
        if goal and ratio and ratio > goal:
            missed.append(what)
        cells = [f"{costs[name]:.0f}" if name in costs else "" for name in SERVERS]
        print(f"| {what} | {' | '.join(cells)} | {f'{ratio:.2f}' if ratio else ''} | {f'≤ {goal}' if goal else ''} |")
    cells = [f"{memory[name]:.1f}" for name in SERVERS]
    print(f"| idle connection, KiB | {' | '.join(cells)} | | ≤ {IDLE_GOAL} |")
    if memory["pyserve"] > IDLE_GOAL:
        missed.append("idle connection")
    if missed:
        print(f"\ngoals missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
