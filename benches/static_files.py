"""What the benchmarks of static files share: pyserve beside nginx, before the same tree of files.

The kinds of load, nginx's directives and what is printed of a load are the benchmark's own.
"""

import argparse
import contextlib
import http.client
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import measure
import servers


@dataclass
class Work:
    """One kind of load: what is asked for, and what shows that the answer is right."""

    path: str
    length: int
    status: int = 200
    fields: dict = field(default_factory=dict)
    script: str = ""

    def verify(self, url):
        """Two right answers over one connection, or an error."""
        connection = http.client.HTTPConnection(url.partition("//")[2], timeout=10)
        with contextlib.closing(connection):
            for _ in range(2):
                connection.request("GET", self.path, headers=self.fields)
                response = connection.getresponse()
                body = response.read()
                if response.status != self.status or len(body) != self.length:
                    raise ValueError(f"a wrong answer: {response.status}, {len(body)} bytes")


def pyserve(site):
    return [[
        str(site.pyserve), "--root", str(site.chdir), "--chdir", str(site.chdir),
        "--bind", f"127.0.0.1:{site.port}", "--access-log", "off",
    ]]  # fmt: skip


def nginx(http, server="", workers=servers.WORKERS):
    """How an nginx with these directives, and the tree as its root, is started."""
    return lambda site: [servers.nginx(site, http, f"root {site.chdir};\n{server}", workers)]


def parser(description, kinds):
    """The options of all of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=kinds, help="this work; repeatable")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of one server in one round; default %(default)s")
    parser.add_argument(
        "--pyserve", type=Path, default=servers.TARGET / "release/pyserve", help="default %(default)s"
    )
    return parser


@contextlib.contextmanager
def running(starts, root, options, proof):
    """The servers of ``starts`` by name, which all answer ``proof`` rightly until the end of the block."""
    if shutil.which("wrk") is None:
        sys.exit("without wrk nothing can be measured")
    if servers.nginx_path() is None:
        starts = {"pyserve": starts["pyserve"]}
    up = {}
    with tempfile.TemporaryDirectory(prefix="static_files-") as work, contextlib.ExitStack() as stack:
        for name, start in starts.items():
            directory = Path(tempfile.mkdtemp(dir=work))
            site = servers.Site("", "", root, Path(), options.pyserve.resolve(), directory, servers.free_port())
            up[name] = stack.enter_context(servers.Running(start, site))
            up[name].wait_ready(proof.verify)
        yield up


def compare(kind, work, up, connections, columns, options):
    """The rounds of one kind of load, printed as a table; how many servers failed.

    A column is a heading, an attribute of ``measure.Load`` and a format. The first is the cost:
    its range and its ratio to nginx's are printed as well.
    """
    loads = {name: [] for name in up}
    wrong = {}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(work.script)
        script.flush()
        for number, name in measure.rotated(list(up), options.rounds):
            if name in wrong:
                continue
            try:
                if number == 0:
                    work.verify(up[name].url)
                load = up[name].load(
                    work.path, connections, options.seconds, work.fields, script.name if work.script else None
                )
                if load.failed:
                    raise ValueError(f"{load.failed} requests failed")
                loads[name].append(load)
            except (OSError, ValueError, servers.ServerFailed) as error:
                wrong[name] = str(error)
    (cost, _, _), *others = columns
    headings = " | ".join(["server", f"{cost} (range)", *(heading for heading, _, _ in others), "CPU ÷ nginx"])
    print(f"\n## {kind}\n\n| {headings} |\n|---|{'--:|' * (len(columns) + 1)}")
    for name in up:
        if name in wrong:
            print(f"| {name} | {wrong[name]} |{' |' * len(columns)}")
        else:
            reference = None if "nginx" in wrong else loads.get("nginx")
            print(f"| {name} | {' | '.join(row(loads[name], reference, columns))} |")
    sys.stdout.flush()
    return len(wrong)


def row(loads, reference, columns):
    """The cells of one server."""
    cells = []
    for number, (_, attribute, shape) in enumerate(columns):
        figures = [getattr(load, attribute) for load in loads]
        spread = f" ({min(figures):{shape}}–{max(figures):{shape}})" if number == 0 else ""
        cells.append(f"{median(figures):{shape}}{spread}")
    cost = columns[0][1]
    middle = lambda loads: median(getattr(load, cost) for load in loads)
    return [*cells, f"{middle(loads) / middle(reference):.2f}" if reference else "–"]
