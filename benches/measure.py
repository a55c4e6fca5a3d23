"""Load by wrk and paced, and what a tree of processes costs by /proc. Knows how to start no server."""

import functools
import json
import os
import platform
import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
MIB_KB = 1024
GB = 1_000_000_000
# wrk's units of bytes.
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
# An answer later than this counts as failed: far above what a fair queue of 64 makes of a slow page.
PATIENCE_S = 10
TOP = Path(__file__).resolve().parent.parent


@dataclass
class Load:
    """What one run of wrk saw, and what the server spent on it."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    gb_per_s: float
    cpu_s_per_gb: float
    failed: int
    requests: int


def machine():
    """What the figures were measured on."""
    return f"{len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}"


def rotated(names, rounds):
    """Every name once a round, with the number of the round.

    Another begins each round, so that none always follows the same one.
    """
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            yield number, name


def load(url, pids, connections, seconds, fields=None, script=None, cpus=None):
    """Runs wrk on ``cpus`` against ``url`` while the trees under ``pids`` are watched."""
    command = [
        "wrk", "--latency", "--threads=1", f"--connections={connections}", f"--duration={seconds}s",
        f"--timeout={PATIENCE_S}s",
    ]  # fmt: skip
    for name, value in (fields or {}).items():
        command += ["--header", f"{name}: {value}"]
    if script:
        command += ["--script", str(script)]
    before = cpu_ticks(pids)
    printed = output([*command, url], seconds, cpus)
    spent_us = (cpu_ticks(pids) - before) * TICK_US
    requests = int(found(r"(\d+) requests in", printed))
    duration, amount, unit = re.search(r"requests in ([\d.]+)s, ([\d.]+)(\w+) read", printed).groups()
    gigabytes = float(amount) * UNITS[unit] / GB
    return Load(
        requests_per_s=float(found(r"Requests/sec:\s+([\d.]+)", printed)),
        p50_ms=milliseconds(found(r"(?m)^ +50%\s+(\S+)", printed)),
        p99_ms=milliseconds(found(r"(?m)^ +99%\s+(\S+)", printed)),
        cpu_us=spent_us / max(requests, 1),
        gb_per_s=gigabytes / float(duration),
        cpu_s_per_gb=spent_us / 1e6 / gigabytes if gigabytes else 0.0,
        failed=failures(printed),
        requests=requests,
    )


def paced(address, paths, rate, connections, seconds, body=0, cpus=None):
    """Runs paced on ``cpus`` against ``address``, with paths by weight; what it prints (benches/paced.rs)."""
    command = [paced_path(), "--rate", str(rate), "--connections", str(connections), "--seconds", str(seconds)]
    if body:
        command += ["--body", str(body)]
    targets = [f"{weight}={path}" for path, weight in paths.items()]
    return json.loads(output([*command, address, *targets], seconds, cpus))


@functools.cache
def paced_path():
    """The generator, built first where that is due."""
    build = ["cargo", "build", "--release", "--locked", "--example", "paced"]
    if subprocess.run(build, cwd=TOP, stdin=subprocess.DEVNULL).returncode != 0:
        raise SystemExit("without benches/paced.rs latency at a fixed rate cannot be measured")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target")
    return str((TOP / target / "release/examples/paced").resolve())


def output(command, seconds, cpus=None):
    """What a generator prints that runs for ``seconds``."""
    pin = functools.partial(os.sched_setaffinity, 0, cpus) if cpus else None
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60, preexec_fn=pin
    )
    if run.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name}: {run.stderr.strip() or run.stdout.strip()}")
    return run.stdout


class Others:
    """The CPU time that neither the watched trees nor our own children take: noise."""

    def __init__(self, pids):
        self.pids = pids
        self.before = self.now()

    def now(self):
        """Ticks of the machine that were not idle, and those of them that are ours."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guest is a part of user.
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = cpu_ticks(self.pids) + (used.ru_utime + used.ru_stime) * 1e6 / TICK_US
        busy = user + nice + system + irq + softirq + steal
        return busy, own, busy + idle + iowait

    def share(self):
        """Their part of all the CPUs' time since the beginning, from 0 to 1."""
        busy, own, all_ticks = (after - before for after, before in zip(self.now(), self.before))
        return max(0.0, (busy - own) / max(all_ticks, 1))


def failures(printed):
    """Answers other than 2xx and 3xx, and errors of sockets."""
    counts = re.findall(r"Non-2xx or 3xx responses: (\d+)", printed)
    for errors in re.findall(r"Socket errors: (.*)", printed):
        counts += re.findall(r"\d+", errors)
    return sum(map(int, counts))


def cpu_ticks(pids):
    """User and system time of all processes of the trees, with children that ended and were waited for."""
    ticks = 0
    for process in tree(*pids):
        fields = stat_fields(process)
        if fields:
            # proc(5): utime, stime, cutime, cstime are fields 14 to 17.
            ticks += sum(int(field) for field in fields[11:15])
    return ticks


def memory_mib(pids):
    """Proportional set size of the trees: a page shared by n processes counts 1/n in each."""
    kb = 0
    for process in tree(*pids):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        kb += int(found(r"Pss:\s+(\d+) kB", rollup))
    return kb / MIB_KB


def tree(*pids):
    """The processes and all that descend from them, or are of the sessions that they lead."""
    children, sessions = {}, []
    for entry in Path("/proc").iterdir():
        fields = stat_fields(entry.name) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            if int(fields[3]) in pids:
                sessions.append(int(entry.name))
    members, queue = {}, [*pids, *sessions]
    while queue:
        process = queue.pop(0)
        if process not in members:
            members[process] = None
            queue.extend(children.get(process, []))
    return list(members)


def interpreters(pids):
    """The files with the interpreter that the trees have loaded: libpython, or python itself without one."""
    libraries, programs = set(), set()
    for process in tree(*pids):
        try:
            maps = Path(f"/proc/{process}/maps").read_text()
        except OSError:
            continue
        libraries.update(re.findall(r"(?m) (/\S*/libpython3\.\d[^/\s]*)$", maps))
        programs.update(re.findall(r"(?m) (/\S*/python3(?:\.\d+)?)$", maps))
    return libraries or programs


def stat_fields(process):
    """The fields of /proc/PID/stat from the third on: the second may hold blanks and brackets."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def found(pattern, text):
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"no {pattern} in: {text}")
    return match[1]
