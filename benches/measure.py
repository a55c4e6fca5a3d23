"""Load by wrk, and what a tree of processes costs by /proc. Knows how to start no server."""

import os
import platform
import re
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


def load(url, pids, connections, seconds, fields=None, script=None):
    """Runs wrk against ``url`` while the trees under ``pids`` are watched."""
    command = [
        "wrk", "--latency", "--threads=1", f"--connections={connections}", f"--duration={seconds}s",
        f"--timeout={PATIENCE_S}s",
    ]  # fmt: skip
    for name, value in (fields or {}).items():
        command += ["--header", f"{name}: {value}"]
    if script:
        command += ["--script", str(script)]
    before = cpu_ticks(pids)
    run = subprocess.run(
        [*command, url], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60
    )
    after = cpu_ticks(pids)
    if run.returncode != 0:
        raise RuntimeError(f"wrk: {run.stderr.strip() or run.stdout.strip()}")
    requests = int(found(r"(\d+) requests in", run.stdout))
    duration, amount, unit = re.search(r"requests in ([\d.]+)s, ([\d.]+)(\w+) read", run.stdout).groups()
    gigabytes = float(amount) * UNITS[unit] / GB
    # A process that ended meanwhile is missing from `after`: its time is lost, not negative.
    spent_us = sum(ticks - before.get(process, 0) for process, ticks in after.items()) * TICK_US
    return Load(
        requests_per_s=float(found(r"Requests/sec:\s+([\d.]+)", run.stdout)),
        p50_ms=milliseconds(found(r"(?m)^ +50%\s+(\S+)", run.stdout)),
        p99_ms=milliseconds(found(r"(?m)^ +99%\s+(\S+)", run.stdout)),
        cpu_us=spent_us / max(requests, 1),
        gb_per_s=gigabytes / float(duration),
        cpu_s_per_gb=spent_us / 1e6 / gigabytes if gigabytes else 0.0,
        failed=failures(run.stdout),
    )


def failures(printed):
    """Answers other than 2xx and 3xx, and errors of sockets."""
    counts = re.findall(r"Non-2xx or 3xx responses: (\d+)", printed)
    for errors in re.findall(r"Socket errors: (.*)", printed):
        counts += re.findall(r"\d+", errors)
    return sum(map(int, counts))


def cpu_ticks(pids):
    """User and system time of every process of the trees, by process, with children that ended."""
    ticks = {}
    for process in tree(*pids):
        fields = stat_fields(process)
        if fields:
            # proc(5): utime, stime, cutime, cstime are fields 14 to 17.
            ticks[process] = sum(int(field) for field in fields[11:15])
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
    """The processes and all that descend from them."""
    children = {}
    for entry in Path("/proc").iterdir():
        fields = stat_fields(entry.name) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    members, queue = [], list(pids)
    while queue:
        members.append(queue.pop())
        queue.extend(children.get(members[-1], []))
    return members


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
