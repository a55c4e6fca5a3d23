#!/usr/bin/env python3
"""pyserve beside nginx+uWSGI, gunicorn, Granian, bjoern, nginx and h2o, in one interleaved run.

    cargo build --release && python3 benches/compare.py --short

Each kind of work (benches/works.py) is measured round by round, one server after the other: first as
many requests as go (wrk), then a fixed rate whose latencies have no coordinated omission (paced).
CPU time is that of all the server's processes; that of the generators does not count. All servers
run the same interpreter and are pinned in the same way. Medians and ranges go to results.json,
results.md and charts below --out. What the machine lacks is named on standard error and left out.
Figures of different runs or machines do not compare: the ratios of one run do.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import chart
import measure
import report
import servers
import works
from servers import TARGET, provision

SKIPPED = 3
# The set of provision.sh that brings each peer; nginx and h2o are Debian's.
SETS = {"nginx+uWSGI": "uwsgi", "gunicorn": "peers", "Granian": "peers", "bjoern": "bjoern"}
# The 99th percentile of the short requests needs some hundred of them.
MIX_S = 3


@dataclass
class Series:
    """All rounds of one server with one kind of work: figures by name, and why they mean nothing, if so."""

    runs: list = field(default_factory=list)
    errors: int = 0
    requests: int = 0
    # The first one.
    error: str = ""
    failure: str = ""


def main():
    options = parse()
    chosen = choose(options)
    names = prepare(options, chosen)
    results = {
        "machine": measure.machine(),
        "interpreter": interpreter(options),
        "versions": versions(options, names),
        "options": {
            "short": options.short, "rounds": options.rounds, "seconds": options.seconds,
            "server_cpus": sorted(options.cpus), "load_cpus": sorted(options.load_cpus),
        },
        "interpreters": {},
        "works": {},
    }  # fmt: skip
    print(report.heading(results), flush=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=options.files) as files:
        if any(work.app == "files" for work in chosen):
            works.plant(Path(files))
        for group in groups(chosen):
            compare(group, names, options, Path(files), results)
    # In the order of the table, whatever order the groups had.
    results["works"] = {work.name: results["works"][work.name] for work in chosen}
    publish(results, options)
    print(f"\n{report.summary(results)}\n\nWritten to {options.out}.")
    return 1 if report.invalid(results) else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="five minutes: works with a goal, two rounds of a second")
    # In the help of an option, `%` begins a format.
    names = [work.name.replace("%", "%%") for work in works.WORKS]
    parser.add_argument(
        "--only",
        action="append",
        metavar="WORK",
        help=f"this work, or those whose name contains this; repeatable: {'; '.join(names)}",
    )
    peers = [name for name in servers.SERVERS if name != "pyserve"]
    parser.add_argument(
        "--peers", action="append", metavar="NAME,...", help=f"these beside pyserve; default all: {', '.join(peers)}"
    )
    parser.add_argument("--rounds", type=int, help="default 5, or 2 with --short")
    parser.add_argument(
        "--seconds", type=int, help="each load of one server in one round; default 4, or 1 with --short"
    )
    parser.add_argument("--cpus", type=cpu_list, help="for servers, as in 0,1; default: two of four or more, else all")
    parser.add_argument("--load-cpus", type=cpu_list, help="for the generators; default: the other ones, else all")
    parser.add_argument("--python", help="interpreter of the applications; default one with a shared libpython")
    parser.add_argument("--venv", type=Path, help="its virtual environment, there or to be made")
    parser.add_argument("--pyserve", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    parser.add_argument("--files", type=Path, help="directory for the files served; default the temporary one")
    parser.add_argument("--out", type=Path, default=TARGET / "compare", help="default %(default)s")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also write the table of benches/README.md and, from a full and quiet run, the chart of the README",
    )
    options = parser.parse_args()
    options.peers = [name for names in options.peers or [] for name in names.split(",")] or peers
    if unknown := set(options.peers) - set(peers):
        parser.error(f"unknown peer {', '.join(unknown)}: not one of {', '.join(peers)}")
    options.rounds = options.rounds or (2 if options.short else 5)
    options.seconds = options.seconds or (1 if options.short else 4)
    all_cpus = sorted(os.sched_getaffinity(0))
    apart = len(all_cpus) >= 2 * servers.WORKERS
    options.cpus = options.cpus or frozenset(all_cpus[: servers.WORKERS] if apart else all_cpus)
    options.load_cpus = options.load_cpus or (frozenset(all_cpus) - options.cpus) or frozenset(all_cpus)
    options.python = options.python or shared_python()
    if options.venv is None:
        options.venv = TARGET / "provision" / ("bench-" + re.sub(r"\W+", "-", options.python.strip("/")))
    options.venv, options.pyserve = options.venv.resolve(), options.pyserve.resolve()
    return options


def cpu_list(text):
    return frozenset(int(number) for number in text.split(","))


def shared_python():
    """An interpreter whose program is linked to libpython, as the programs that embed it are.

    Otherwise Granian, gunicorn and bjoern would run another build than pyserve and uWSGI.
    """
    ask = "import sys; print(sys.executable, 'libpython' in open('/proc/self/maps').read())"
    first = None
    for candidate in (getattr(sys, "_base_executable", sys.executable), "python3", "/usr/bin/python3"):
        if shutil.which(candidate) is None:
            continue
        asked = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, timeout=30).stdout.split()
        if len(asked) == 2:
            path = str(Path(asked[0]).resolve())
            if asked[1] == "True":
                return path
            first = first or path
    print(f"{first} is not linked to libpython: servers run two builds of it (see --python)", file=sys.stderr)
    return first


def choose(options):
    """The works to measure, in the order of the table."""
    if options.only:
        # A whole name is that work alone: `hello` is also a part of others.
        whole = {work.name for work in works.WORKS}
        chosen = [
            work
            for work in works.WORKS
            if any(work.name == part if part in whole else part in work.name for part in options.only)
        ]
    else:
        chosen = [work for work in works.WORKS if work.goals or not options.short]
    require(chosen, f"no work has a name with {' or '.join(options.only or [])}")
    return chosen


def prepare(options, chosen):
    """Installs what the servers need; the names of those that can run, pyserve first."""
    if shutil.which("wrk") is None and provision("debian", "wrk") == SKIPPED:
        sys.exit("without wrk nothing can be measured")
    measure.paced_path()
    require(options.pyserve.exists(), f"there is no {options.pyserve}: cargo build --release")
    if any(work.app != "files" for work in chosen):
        require(provision("venv", options.python, str(options.venv)) == 0, "there is no virtual environment")
    wanted = {name for work in chosen for name in work.peers} & set(options.peers)
    names = ["pyserve"]
    for name in servers.SERVERS:
        if name in wanted:
            there = name not in SETS or provision(SETS[name], options.python, str(options.venv)) == 0
            if name in ("nginx", "nginx+uWSGI", "h2o"):
                there = there and servers.path_of("h2o" if name == "h2o" else "nginx") is not None
            if there:
                names.append(name)
    return names


def groups(chosen):
    """Works that the same running servers can do; memory is measured with each server alone."""
    grouped = {}
    for work in chosen:
        alone = work.name if work.metric is works.MEMORY else ""
        grouped.setdefault((work.app, work.defaults, alone), []).append(work)
    return list(grouped.values())


def compare(group, names, options, files, results):
    """All rounds of the works of one group."""
    app = works.APPS[group[0].app]
    if group[0].app == "files":
        app = dataclasses.replace(app, chdir=files)
    names = [name for name in names if name == "pyserve" or name in group[0].peers]
    with tempfile.TemporaryDirectory(prefix="compare-") as work:
        start = Starter(app, group[0], options, Path(work))
        if group[0].metric is works.MEMORY:
            memory(group[0], names, start, options, results)
        else:
            together(group, names, start, options, results)


@dataclass
class Starter:
    """Starts servers for one application."""

    app: works.App
    work: works.Work
    options: argparse.Namespace
    directory: Path
    env: dict = None

    @contextlib.contextmanager
    def __call__(self, name):
        if self.env is None:
            self.env = environment(self.app, self.options, self.directory)
        site = servers.Site(
            self.app.module, self.app.callable, self.app.chdir, self.options.venv, self.options.pyserve,
            Path(tempfile.mkdtemp(dir=self.directory)), servers.free_port(), self.env, self.work.defaults,
            self.options.cpus,
        )  # fmt: skip
        with servers.Running(servers.SERVERS[name], site) as server:
            server.wait_ready(self.work.verify)
            yield server


def together(group, names, start, options, results):
    """With all servers up; those that have nothing to do cost the others nothing."""
    with contextlib.ExitStack() as stack:
        running, failures = {}, {}
        for name in names:
            try:
                running[name] = stack.enter_context(start(name))
                if group[0].app != "files":
                    results["interpreters"][name] = sorted(measure.interpreters(running[name].pids()))
                warm(running[name], group[0], options)
            except (OSError, ValueError, servers.ServerFailed) as error:
                failures[name] = str(error)
        for work in group:
            series = {name: Series(failure=failures.get(name, "")) for name in names}
            everyone = [pid for server in running.values() for pid in server.pids()]
            others = measure.Others(everyone)
            for number, name in measure.rotated(names, options.rounds):
                if not series[name].failure:
                    one_round(number, work, running[name], series[name], options)
            finish(work, series, results, round(others.share(), 3))


def warm(server, work, options):
    """Lets caches fill before anything is measured."""
    if work.saturates:
        with script_of(work) as script:
            server.load(work.path, work.connections, 1, fields=work.fields, script=script, cpus=options.load_cpus)


def one_round(number, work, server, series, options):
    """Load without a limit, then at the fixed rate; what goes wrong is kept with the figures."""
    run = {}
    try:
        if number == 0:
            work.verify(server.url)
        if work.saturates:
            with script_of(work) as script:
                load = server.load(
                    work.path, work.connections, options.seconds,
                    fields=work.fields, script=script, cpus=options.load_cpus,
                )  # fmt: skip
            run |= dataclasses.asdict(load)
            series.errors += load.failed
            series.requests += load.requests
        if work.rate:
            seconds = options.seconds if work.saturates else max(options.seconds, MIX_S)
            paced = server.paced(
                work.paths, work.rate, work.connections, seconds, body=work.body, cpus=options.load_cpus
            )
            for target in paced["targets"]:
                series.errors += target["failed"]
                series.requests += target["answered"] + target["failed"]
                series.error = series.error or target["error"] or ""
            first, *others = paced["targets"]
            run |= {f"paced_{key}": first[key] for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms")}
            run[works.SHORT_P99.key] = first["p99_ms"]
            run[works.LONG_P50.key] = others[0]["p50_ms"] if others else None
            run["paced"] = paced
        series.runs.append(run)
    except (OSError, ValueError, servers.ServerFailed) as error:
        series.failure = str(error)


def memory(work, names, start, options, results):
    """Each server alone, started anew: files that two servers share would make both look smaller."""
    series = {name: Series() for name in names}
    for _, name in measure.rotated(names, 1 if options.short else options.rounds):
        if series[name].failure:
            continue
        try:
            with start(name) as server:
                load = server.load(work.path, work.connections, 1, cpus=options.load_cpus)
                series[name].errors += load.failed
                series[name].requests += load.requests
                series[name].runs.append({work.metric.key: server.memory_mib()})
        except (OSError, ValueError, servers.ServerFailed) as error:
            series[name].failure = str(error)
    finish(work, series, results)


def finish(work, series, results, other_cpu=0.0):
    """Keeps the figures of one work, and prints them."""
    for name, one in series.items():
        if one.failure:
            print(f"{work.name}: {name} failed: {one.failure}", file=sys.stderr)
    results["works"][work.name] = report.collect(work, series, other_cpu)
    print(f"\n{report.details(work, results)}", flush=True)


@contextlib.contextmanager
def script_of(work):
    """The file with what wrk has to run, or ``None``."""
    if not work.lua():
        yield None
        return
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(work.lua())
        script.flush()
        yield script.name


def environment(app, options, directory):
    """Settings of the application, which has its data and its byte code in ``directory``."""
    env = {
        "EXAMPLE_DATABASE": str(directory / "db.sqlite3"),
        "EXAMPLE_MEDIA": str(directory / "media"),
        "EXAMPLE_STATIC": str(directory / "static"),
        "PYTHONPATH": str(app.chdir),
        "PYTHONPYCACHEPREFIX": str(directory / "pycache"),
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


def interpreter(options):
    asked = subprocess.run([options.python, "-V"], capture_output=True, text=True, timeout=10)
    return asked.stdout.strip()


def versions(options, names):
    """The version of each server."""
    packages = {"nginx+uWSGI": "uWSGI", "gunicorn": "gunicorn", "Granian": "granian", "bjoern": "bjoern"}
    told = {"pyserve": first_number([options.pyserve, "--version"])}
    for name in names[1:]:
        if name in packages:
            ask = f"import importlib.metadata as m; print(m.version({packages[name]!r}))"
            told[name] = first_number([options.venv / "bin/python", "-c", ask])
        else:
            told[name] = first_number([servers.path_of(name), "-v" if name == "nginx" else "--version"])
    return told


def first_number(command):
    run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return measure.found(r"(\d+\.[\d.]*\d)", run.stdout + run.stderr)


def publish(results, options):
    """Writes results.json, results.md, figures.json and the charts; those of the documents where asked."""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (options.out / "results.md").write_text(report.document(results))
    figures = report.figures(results)
    if figures["panels"]:
        chart.write(figures, options.out)
    if options.publish:
        report.write_readme(results)
        if (
            any(map(report.noisy, results["works"].values()))
            or report.invalid(results)
            or options.short
            or options.only
        ):
            print("the chart of the README stays: it needs a full, valid run on a quiet machine", file=sys.stderr)
        else:
            chart.write(figures, chart.HERE)


def require(condition, message):
    if not condition:
        sys.exit(message)


if __name__ == "__main__":
    sys.exit(main())
