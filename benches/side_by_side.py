#!/usr/bin/env python3
"""pyserve beside nginx+uWSGI, Granian, gunicorn and bjoern, in one interleaved run.

    cargo build --release && python3 benches/side_by_side.py

Every server runs the same application in the same virtual environment with two workers; wrk
loads one after the other, round by round, and the medians are printed as Markdown. What the
machine lacks (wrk, nginx, a compiler for uWSGI) is named on standard error and left out.
Figures of different runs or machines do not compare: the ratios of one run do.
"""

import argparse
import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import measure
import servers
from servers import TARGET, TOP, provision

REFERENCE = "nginx+uWSGI"
SKIPPED = 3


@dataclass
class App:
    """What is served: where it is, what to ask, and what shows that the answer is right."""

    module: str
    callable: str
    chdir: Path
    path: str
    proof: bytes


APPS = {
    "hello": App("hello", "application", TOP / "benches/apps", "/", rb"\AHello, world!\Z"),
    "flask": App("app", "app", TOP / "python/examples/flask", "/api", rb'\A\{"message":"Hello from Flask",.*\}\s*\Z'),
    "django": App(
        "mysite.wsgi",
        "application",
        TOP / "python/examples/django",
        "/",
        rb"(?s)csrfmiddlewaretoken.*<li>note 10 .*</html>",
    ),
}


@dataclass
class Figures:
    """All rounds of one server with one application."""

    rounds: list = field(default_factory=list)
    memory_mib: float = 0.0

    def of(self, name):
        return median(getattr(one, name) for one in self.rounds)

    def cpu_range(self):
        costs = [one.cpu_us for one in self.rounds]
        return f"{min(costs):.1f}–{max(costs):.1f}"


def main():
    options = parse()
    names = prepare(options)
    failed = 0
    print(heading(options), flush=True)
    for app_name in options.only or APPS:
        with tempfile.TemporaryDirectory(prefix="side_by_side-") as work:
            figures = compare(APPS[app_name], names, options, Path(work))
        print(f"\n## {app_name}\n\n{table(figures)}", flush=True)
        for name, one in figures.items():
            lost = sum(load.failed for load in one.rounds) if one else 0
            if lost:
                print(f"\n{name}: {lost} requests failed; its figures mean nothing.", flush=True)
            failed += lost if one else 1
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work at all")
    parser.add_argument("--only", action="append", choices=APPS, help="this application; repeatable")
    parser.add_argument("--server", action="append", choices=servers.SERVERS, help="this server; repeatable")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--seconds", type=int, help="load of one server in one round; default 5")
    parser.add_argument("--connections", type=int, default=64, help="default %(default)s")
    parser.add_argument("--python", help="interpreter of the applications; default the system's")
    parser.add_argument("--venv", type=Path, help="where the virtual environment is or shall be")
    parser.add_argument("--pyserve", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 5)
    if options.python is None:
        options.python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    if options.venv is None:
        options.venv = TARGET / "provision" / ("bench-" + re.sub(r"\W+", "-", options.python.strip("/")))
    options.venv = options.venv.resolve()
    options.pyserve = options.pyserve.resolve()
    return options


def prepare(options):
    """Prepares what the servers need; the names of those that can run."""
    wanted = options.server or list(servers.SERVERS)
    if shutil.which("wrk") is None and provision("debian", "wrk") == SKIPPED:
        sys.exit("without wrk nothing can be measured")
    require(provision("venv", options.python, str(options.venv)) == 0, "there is no virtual environment")
    sets = {REFERENCE: "uwsgi", "Granian": "peers", "gunicorn": "peers", "bjoern": "bjoern"}
    names = []
    for name in wanted:
        if name == "pyserve":
            there = options.pyserve.exists()
            if not there:
                print(f"skipped: pyserve because there is no {options.pyserve}", file=sys.stderr)
        else:
            there = provision(sets[name], options.python, str(options.venv)) == 0
        if name == REFERENCE:
            there = there and servers.nginx_path() is not None
        if there:
            names.append(name)
    return names


def compare(app, names, options, work):
    """The rounds with all servers up, then the memory of each on its own; ``None`` for one that failed."""
    env = environment(app, options, work)
    figures = {name: Figures() for name in names}
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            with surviving(name, figures):
                running[name] = stack.enter_context(started(name, app, options, work, env))
                running[name].load(app.path, options.connections, 1)
        for _, name in measure.rotated(names, options.rounds):
            if figures[name]:
                with surviving(name, figures):
                    load = running[name].load(app.path, options.connections, options.seconds)
                    figures[name].rounds.append(load)
    for name in names:
        # Alone: files that two servers share would make both look smaller.
        if figures[name]:
            with surviving(name, figures), started(name, app, options, work, env) as server:
                server.load(app.path, options.connections, 1)
                figures[name].memory_mib = server.memory_mib()
    return figures


@contextlib.contextmanager
def surviving(name, figures):
    """One server's failure is told and costs its own figures only."""
    try:
        yield
    except servers.ServerFailed as error:
        print(f"{name} failed: {error}", file=sys.stderr)
        figures[name] = None


@contextlib.contextmanager
def started(name, app, options, work, env):
    directory = Path(tempfile.mkdtemp(dir=work))
    site = servers.Site(
        app.module, app.callable, app.chdir, options.venv, options.pyserve, directory, servers.free_port(), env
    )
    with servers.Running(servers.SERVERS[name], site) as server:
        server.wait_ready(lambda url: verify(url, app))
        yield server


def verify(url, app):
    """Two right answers over one connection, or an error."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=5)
    with contextlib.closing(connection):
        for _ in range(2):
            connection.request("GET", app.path)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200 or not re.search(app.proof, body):
                raise ValueError(f"a wrong answer: {response.status} {body[:200]!r}")
            if response.will_close:
                raise ValueError("the connection is not kept alive")


def environment(app, options, work):
    """Settings of the application: its data is in ``work``, its byte code too."""
    env = {
        "EXAMPLE_DATABASE": str(work / "db.sqlite3"),
        "EXAMPLE_MEDIA": str(work / "media"),
        "EXAMPLE_STATIC": str(work / "static"),
        "PYTHONPATH": str(app.chdir),
        "PYTHONPYCACHEPREFIX": str(work / "pycache"),
    }
    if (app.chdir / "manage.py").exists():
        seed = "from notes.models import Note; [Note.objects.create(text=f'note {n}') for n in range(1, 11)]"
        for arguments in (["migrate", "--verbosity", "0"], ["shell", "--command", seed]):
            command = [options.venv / "bin/python", "manage.py", *arguments]
            subprocess.run(
                command, cwd=app.chdir, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                check=True, timeout=120,
            )  # fmt: skip
    return env


def heading(options):
    asked = subprocess.run([options.venv / "bin/python", "-V"], capture_output=True, text=True, timeout=10)
    return (
        f"# Side by side\n\n{measure.machine()}, {asked.stdout.strip()} "
        f"({options.python}); {servers.WORKERS} workers; wrk with {options.connections} keep-alive connections on the "
        f"same CPUs; medians of {options.rounds} rounds of {options.seconds} s."
    )


def table(figures):
    lines = [
        f"| server | requests/s | p50 ms | p99 ms | CPU µs/request (range) | memory MiB | requests/s ÷ {REFERENCE} "
        f"| CPU ÷ {REFERENCE} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    reference = figures.get(REFERENCE)
    for name, one in figures.items():
        if one is None:
            lines.append(f"| {name} | failed | | | | | | |")
            continue
        rate, cpu = one.of("requests_per_s"), one.of("cpu_us")
        ratios = "– | –"
        if reference:
            ratios = f"{rate / reference.of('requests_per_s'):.2f} | {cpu / reference.of('cpu_us'):.2f}"
        lines.append(
            f"| {name} | {rate:,.0f} | {one.of('p50_ms'):.2f} | {one.of('p99_ms'):.2f} "
            f"| {cpu:.1f} ({one.cpu_range()}) | {one.memory_mib:.1f} | {ratios} |"
        )
    return "\n".join(lines)


def require(condition, message):
    if not condition:
        sys.exit(message)


if __name__ == "__main__":
    sys.exit(main())
