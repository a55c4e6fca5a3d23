#!/usr/bin/env python3
"""Workers on demand beside fixed numbers of them, in one interleaved run.

    cargo build --release && python3 benches/elastic.py

An application that waits gets as many requests/s from the default as from many workers, one that
computes as many as from one for each CPU. `after waiting` computes with the workers that the default
has added before: those that do not help leave. Every server stays up for the whole run, so that
the default is seen with the workers of its last work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import measure
import servers
from servers import TARGET, TOP

CONNECTIONS = 32
CPUS = len(os.sched_getaffinity(0))
NUMBERS = {"auto": "auto", "one per CPU": str(CPUS), "16 per CPU": str(16 * CPUS)}
# The path, and whether the workers are first made to wait.
WORK = {
    "waits 20 ms": ("/wait", False),
    "computes 10 ms": ("/compute", False),
    "computes 10 ms, after waiting": ("/compute", True),
    "computes 2 ms, waits 20 ms": ("/both", False),
}
WARM_UP_S = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=5, help="of each load, default %(default)s")
    parser.add_argument("--pyserve", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    parser.add_argument("--python", default=sys.executable, help="interpreter, default %(default)s")
    options = parser.parse_args()
    print(f"{measure.machine()}, {CONNECTIONS} connections, {options.rounds} rounds of {options.seconds} s\n")
    print("| work | workers | requests/s | spread | p50 ms | p99 ms | CPU µs/request | workers at the end |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    failed = 0
    for work, (path, is_after_waiting) in WORK.items():
        failed += compare(work, path, is_after_waiting, options)
    return 1 if failed else 0


def compare(work, path, is_after_waiting, options):
    """Prints a row for each number of workers; the number of failed requests."""
    figures = {name: [] for name in NUMBERS}
    at_the_end = {}
    running = {}
    with tempfile.TemporaryDirectory(prefix="elastic-") as directory:
        try:
            for name, workers in NUMBERS.items():
                running[name] = Server(workers, Path(directory) / name.replace(" ", "-"), options)
            for _, name in measure.rotated(list(NUMBERS), options.rounds):
                if is_after_waiting:
                    running[name].load("/wait", WARM_UP_S)
                elif not figures[name]:
                    running[name].load(path, WARM_UP_S)
                figures[name].append(running[name].load(path, options.seconds))
                at_the_end[name] = running[name].workers()
        finally:
            for server in running.values():
                server.stop()
    for name, loads in figures.items():
        rates = [load.requests_per_s for load in loads]
        of = lambda field: median(getattr(load, field) for load in loads)  # noqa: E731
        print(
            f"| {work if name == 'auto' else ''} | {name} | {median(rates):,.0f} | {min(rates):,.0f}–{max(rates):,.0f} "
            f"| {of('p50_ms'):.1f} | {of('p99_ms'):.1f} | {of('cpu_us'):,.0f} | {at_the_end[name]} |",
            flush=True,
        )
    return sum(load.failed for loads in figures.values() for load in loads)


class Server:
    """A pyserve with so many workers."""

    def __init__(self, workers, directory, options):
        directory.mkdir()
        self.pyserve, self.control = str(options.pyserve), str(directory / "control")
        self.url = f"http://127.0.0.1:{servers.free_port()}"
        with open(directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [
                    self.pyserve, "--app", "waits:application", "--chdir", str(TOP / "benches/apps"),
                    "--bind", self.url.removeprefix("http://"), "--control", self.control, "--python", options.python,
                    "--workers", workers, "--access-log", "off",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        for _ in range(100):
            if self.verb("health").returncode == 0:
                return
            if self.process.poll() is not None:
                break
        self.stop()
        raise SystemExit((directory / "log").read_text(errors="replace"))

    def load(self, path, seconds):
        return measure.load(self.url + path, [self.process.pid], CONNECTIONS, seconds)

    def workers(self):
        status = json.loads(self.verb("status", "--json").stdout)
        return status["applications"][0]["scaling"]["workers"]

    def verb(self, *words):
        return subprocess.run(
            [self.pyserve, *words, "--control", self.control],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(servers.STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    sys.exit(main())
