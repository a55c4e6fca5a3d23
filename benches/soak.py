#!/usr/bin/env python3
"""Everything that life does to a server, under load, for as long as one likes.

    cargo build --release && python3 benches/soak.py --seconds 3600

The clients of worker_kills.py ask without pause, while every `--every` seconds something happens:
a reload, two at once, a broken one, a worker more or less, a worker or the template killed;
workers are recycled all the time. Only requests inside a killed worker may fail, with 502, and
nothing may run twice. Descriptors and memory of the server are noted after the first tenth and
at the end. Exits with 1 if anything was lost or has grown.
"""

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from worker_kills import CLIENTS, TOP, Client, report, workers

MOST_MEMORY_MIB = 32
MOST_DESCRIPTORS = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two events")
    parser.add_argument("--python", help="interpreter of the application")
    parser.add_argument("--binary", type=Path, default=TOP / "target/release/pyserve")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        sys.exit(run(options, Path(work)))


def run(options, work):
    (work / "app").mkdir()
    app = work / "app/journal.py"
    sound = (TOP / "benches/apps/journal.py").read_text()
    app.write_text(sound)
    server = subprocess.Popen(
        [options.binary, "--chdir", work / "app", "--app", "journal", "--workers", "2", "--threads", "2",
         "--max-requests", "2000", "--bind", "127.0.0.1:0", "--control", "off",
         "--static", "/static={}".format(TOP / "python/examples/static"),
         "--access-log", "off", "--log-format", "pretty", *(["--python", options.python] if options.python else [])],
        env={**os.environ, "JOURNAL": str(work / "journal"), "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE, text=True)
    port = None
    for line in server.stderr:
        if "listening on" in line:
            port = int(line.rsplit(":", 1)[1])
        if line.startswith("ready in"):
            break
    said = collections.Counter()
    threading.Thread(target=listen, args=(server.stderr, said), daemon=True).start()
    began = time.monotonic()
    clients = [Client(number, port, began + options.seconds) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    killed, events, early = set(), collections.Counter(), None
    while time.monotonic() < began + options.seconds - options.every:
        time.sleep(options.every)
        event = random.choice(["reload", "two reloads", "broken reload", "more", "fewer", "kill worker", "kill template"])
        events[event] += 1
        happen(event, server.pid, app, sound, killed)
        if early is None and time.monotonic() > began + options.seconds / 10:
            early = cost(server.pid)
    for client in clients:
        client.join()
    late = cost(server.pid)
    server.terminate()
    code = server.wait(60)
    print("{}; {}".format(dict(events), dict(said)))
    early = early or late
    print("descriptors {} -> {}, memory {:.0f} -> {:.0f} MiB".format(early[0], late[0], early[1], late[1]))
    has_grown = late[0] > early[0] + MOST_DESCRIPTORS or late[1] > early[1] + MOST_MEMORY_MIB
    return 1 if report(clients, killed, work / "journal", code) or has_grown else 0


def happen(event, pid, app, sound, killed):
    if event == "broken reload":
        app.write_text("import no_such_module\n")
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.3)
        app.write_text(sound)
    elif "reload" in event:
        for _ in range(2 if event == "two reloads" else 1):
            os.kill(pid, signal.SIGHUP)
    elif event == "more":
        os.kill(pid, signal.SIGTTIN)
    elif event == "fewer":
        os.kill(pid, signal.SIGTTOU)
    elif event == "kill worker":
        running = workers(pid)
        if running:
            victim = random.choice(running)
            killed.add(victim)
            kill(victim)
    elif event == "kill template":
        templates = [child for child in children(pid) if name(child) == "pyserve-tmpl"]
        if templates:
            kill(templates[-1])


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just been recycled


def children(pid):
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


def name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def listen(lines, said):
    """Counts what the server says about itself."""
    for line in lines:
        for part in ["reloaded in", "reload failed", "has had its time", "worker died", "template died", "request lost"]:
            if part in line:
                said[part] += 1


def cost(pid):
    """Open descriptors, and resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
