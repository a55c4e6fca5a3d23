"""The kinds of work that compare.py measures, with their goals. Starts nothing and measures nothing."""

import contextlib
import gzip
import http.client
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
KIB, MIB = 1 << 10, 1 << 20
# For answers that take long on purpose, and for machines that do other things.
VERIFY_S = 20

APPLICATION_PEERS = ("nginx+uWSGI", "gunicorn", "Granian", "bjoern")
FILE_PEERS = ("nginx", "h2o")


@dataclass(frozen=True)
class Metric:
    """One figure: the key in results, its heading, its format, and the direction in which it is better."""

    key: str
    heading: str
    unit: str
    shape: str
    less_is_better: bool = True


CPU = Metric("cpu_us", "CPU µs/request", "µs", ",.1f")
RATE = Metric("requests_per_s", "requests/s", "/s", ",.0f", less_is_better=False)
SHORT_P99 = Metric("short_p99_ms", "p99 of the short ones, ms", "ms", ",.1f")
LONG_P50 = Metric("long_p50_ms", "p50 of the long ones, ms", "ms", ",.1f")
MEMORY = Metric("memory_mib", "memory (PSS), MiB", "MiB", ",.1f")


@dataclass(frozen=True)
class Goal:
    """A limit for pyserve: a number, or a peer's figure times ``factor`` plus ``plus``."""

    limit: float = 0.0
    peer: str = ""
    factor: float = 1.0
    plus: float = 0.0

    def text(self, metric):
        sign = "≤" if metric.less_is_better else "≥"
        if not self.peer:
            return f"{sign} {self.limit:,g} {metric.unit}"
        factor = "" if self.factor == 1 and self.plus else f" × {self.factor:g}"
        plus = f" + {self.plus:g} {metric.unit}" if self.plus else ""
        return f"{sign} {self.peer}{factor}{plus}"

    def met(self, metric, own, figures):
        """``None`` where the peer has no figure."""
        limit = self.limit
        if self.peer:
            if figures.get(self.peer) is None:
                return None
            limit = figures[self.peer] * self.factor + self.plus
        return own <= limit if metric.less_is_better else own >= limit


@dataclass(frozen=True)
class App:
    """An application: where it is and how its module and callable are called; files have no module."""

    chdir: Path = Path()
    module: str = ""
    callable: str = "application"


APPS = {
    "hello": App(TOP / "benches/apps", "hello"),
    "works": App(TOP / "benches/apps", "works"),
    "flask": App(TOP / "python/examples/flask", "app", "app"),
    "django": App(TOP / "python/examples/django", "mysite.wsgi"),
    "files": App(),
}


@dataclass(frozen=True)
class Work:
    """One row: what is asked of which application, how, and what shows that the answer is right.

    ``paths`` are mixed by weight where there are several; wrk asks the first alone. ``rate`` is that of
    the load at a fixed rate, low enough for every server. ``defaults`` runs servers as their documents have
    them, instead of two workers of one thread. Works without a goal are left out of a short run.
    """

    name: str
    app: str
    paths: dict
    proof: "str | int"
    metric: Metric = CPU
    goals: tuple = ()
    connections: int = 32
    rate: int = 0
    body: int = 0
    status: int = 200
    fields: dict = field(default_factory=dict)
    script: str = ""
    defaults: bool = False

    @property
    def path(self):
        return next(iter(self.paths))

    @property
    def peers(self):
        return FILE_PEERS if self.app == "files" else APPLICATION_PEERS

    @property
    def saturates(self):
        """As many requests as go; otherwise the load at a fixed rate and the memory are all."""
        return self.metric in (CPU, RATE)

    def lua(self):
        """What wrk has to run for this work, or nothing."""
        if self.body:
            return f'wrk.method = "POST"\nwrk.body = string.rep("x", {self.body})\n'
        return self.script

    def verify(self, url):
        """Two right answers for each path over one connection, or an error."""
        connection = http.client.HTTPConnection(url.partition("//")[2], timeout=VERIFY_S)
        with contextlib.closing(connection):
            for path in [*self.paths, *self.paths]:
                body = b"x" * self.body if self.body else None
                connection.request("POST" if body else "GET", path, body=body, headers=self.fields)
                response = connection.getresponse()
                answer = response.read()
                if response.status != self.status or not right(self.proof, answer):
                    raise ValueError(f"a wrong answer: {response.status}, {len(answer)} bytes: {answer[:200]!r}")
                if response.will_close:
                    raise ValueError("the connection is not kept alive")


def right(proof, answer):
    """A number stands for the length of the answer, other text for a regular expression."""
    return len(answer) == proof if isinstance(proof, int) else re.search(proof.encode(), answer)


def part(name, first, length, of, **more):
    """A range out of a file."""
    fields = {"Range": f"bytes={first}-{first + length - 1}"}
    return Work(name, "files", {of: 1}, length, status=206, fields=fields, **more)


HELLO = r"\AHello, world!\Z"
FLASK = r'\A\{"message":"Hello from Flask",.*\}\s*\Z'
DJANGO = r"(?s)csrfmiddlewaretoken.*<li>note 10 .*</html>"
DATE = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
ZIPPED = gzip.compress(b"body { margin: 0 }\n" * 1000)
MANY = 1000
MANY_SCRIPT = f"""\
local number = 0
request = function()
    number = (number + 1) % {MANY}
    return wrk.format("GET", "/static/many/" .. number .. ".txt")
end
"""

WORKS = [
    Work(
        "hello", "hello", {"/": 1}, HELLO, rate=5000,
        goals=(Goal(11), Goal(peer="Granian", factor=0.55)),
    ),
    Work("hello, 64 connections", "hello", {"/": 1}, HELLO, connections=64, rate=5000, goals=(Goal(10),)),
    Work("10 KiB body", "works", {"/10k": 1}, 10 * KIB, rate=5000, goals=(Goal(15),)),
    Work("Flask, JSON", "flask", {"/api": 1}, FLASK, rate=1500, goals=(Goal(peer="bjoern", plus=8),)),
    Work("Django, page", "django", {"/": 1}, DJANGO, rate=200, goals=(Goal(peer="bjoern", factor=1.02),)),
    Work("POST of 64 KiB", "works", {"/upload": 1}, r"\A65536\Z", rate=1500, body=64 * KIB, goals=(Goal(40),)),
    Work(
        "20 ms of waiting, defaults", "works", {"/wait": 1}, HELLO, metric=RATE, rate=50, defaults=True,
        goals=(Goal(1500),),
    ),
    Work(
        "90 % 1 ms, 10 % 50 ms of CPU, defaults", "works", {"/short": 9, "/long": 1}, HELLO, metric=SHORT_P99, rate=200,
        connections=64, defaults=True, goals=(Goal(40),),
    ),
    Work("file of 1 KiB", "files", {"/static/1.txt": 1}, KIB, rate=5000, goals=(Goal(4.8),)),
    Work("file of 16 KiB", "files", {"/static/16.txt": 1}, 16 * KIB, rate=5000, goals=(Goal(6.3),)),
    Work(
        "file of 1 MiB", "files", {"/static/middle.bin": 1}, MIB, connections=16, rate=500,
        goals=(Goal(peer="nginx", factor=1.0),),
    ),
    Work("304", "files", {"/static/1.txt": 1}, 0, status=304, fields=DATE, connections=64),
    part("1 KiB out of 16 KiB", 1000, KIB, "/static/16.txt", connections=64),
    Work(
        "gzip neighbour", "files", {"/static/style.css": 1}, len(ZIPPED), fields={"Accept-Encoding": "gzip"},
        connections=64,
    ),
    Work(f"{MANY} files of 4 KiB", "files", {"/static/many/7.txt": 1}, 4 * KIB, script=MANY_SCRIPT, connections=64),
    Work("file of 100 MiB", "files", {"/static/large.bin": 1}, 100 * MIB, connections=4),
    part("10 MiB out of 100 MiB", 33 * MIB + 7, 10 * MIB, "/static/large.bin", connections=4),
    part("256 KiB out of 100 MiB", 50 * MIB + 1, 256 * KIB, "/static/large.bin", connections=4),
    Work("memory, hello", "hello", {"/": 1}, HELLO, metric=MEMORY),
    Work("memory, Flask", "flask", {"/api": 1}, FLASK, metric=MEMORY),
    Work("memory, Django", "django", {"/": 1}, DJANGO, metric=MEMORY, goals=(Goal(64),)),
]  # fmt: skip


def plant(root):
    """The files that the works ask for, below ``root``."""
    static = root / "static"
    (static / "many").mkdir(parents=True)
    for name, length in (("1.txt", KIB), ("16.txt", 16 * KIB), ("middle.bin", MIB), ("large.bin", 100 * MIB)):
        (static / name).write_bytes(os.urandom(length))
    (static / "style.css").write_bytes(gzip.decompress(ZIPPED))
    (static / "style.css.gz").write_bytes(ZIPPED)
    for number in range(MANY):
        (static / f"many/{number}.txt").write_bytes(os.urandom(4 * KIB))
