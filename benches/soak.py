#!/usr/bin/env python3
"""Everything that life does to a server, under load, for as long as one likes.

    cargo build --release && python3 benches/soak.py --seconds 3600

The clients of worker_kills.py ask without pause, while every `--every` seconds something happens:
a reload, two at once, a broken one, a worker more or less, a worker or the template killed;
workers are recycled all the time. Only requests inside a killed worker may fail, with 502, and
nothing may run twice. Descriptors are counted before it all and after it, with as many workers;
memory after the first tenth and at the end, and what a reload leaves behind. Exits with 1 if
anything was lost or has grown. The server's log is kept as soak.log below target/, so that a loss
can be followed by the process id that `report` names.
"""

import collections
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import TARGET
from worker_kills import TOP, asking, children, ended, parse, report, serving, workers

MOST_MEMORY_MIB = 32
MOST_DESCRIPTORS = 16
# The allocator keeps what many threads needed at a time, so memory under load tells of no leak;
# that of reloads without load, when it has got used to them, does.
MOST_LEAK_KIB = 5
WARM_UP, RELOADS = 200, 400
EVENTS = ["reload", "two reloads", "broken reload", "more", "fewer", "kill worker", "kill template"]


def main():
    options = parse(20, 0.5, "seconds between two events", __doc__)
    with tempfile.TemporaryDirectory() as work:
        sys.exit(run(options, Path(work)))


def run(options, work):
    (work / "app").mkdir()
    app = work / "app/journal.py"
    sound = (TOP / "benches/apps/journal.py").read_text()
    app.write_text(sound)
    killed, events, said, early = set(), collections.Counter(), collections.Counter(), None
    settings = ["--max-requests", "2000", "--control", "off"]
    with serving(options, work / "app", work / "journal", *settings) as (server, port):
        threading.Thread(target=listen, args=(server.stderr, said), daemon=True).start()
        descriptors = cost(server.pid)[0]
        began = time.monotonic()
        until = began + options.seconds
        clients = asking(port, until)
        while time.monotonic() < until - options.every:
            time.sleep(options.every)
            event = random.choice(EVENTS)
            events[event] += 1
            happen(event, server.pid, app, sound, killed)
            if early is None and time.monotonic() > began + options.seconds / 10:
                early = cost(server.pid)[1]
        for client in clients:
            client.join()
        resize(server.pid)
        late = settled(server.pid)
        leak = leaked(server.pid, said)
        code = ended(server, clients)
    print("{}; {}".format(dict(events), dict(said)))
    early = early or late[1]
    print("descriptors {} -> {}, memory {:.0f} -> {:.0f} MiB".format(descriptors, late[0], early, late[1]))
    print("{:.1f} KiB of memory for each reload without load".format(leak))
    has_grown = late[0] > descriptors + MOST_DESCRIPTORS or late[1] > early + MOST_MEMORY_MIB or leak > MOST_LEAK_KIB
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


def name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def listen(lines, said):
    """Keeps what the server says, and counts what it says about itself."""
    with (TARGET / "soak.log").open("w", buffering=1) as log:
        for line in lines:
            log.write(line)
            count(line, said)


def count(line, said):
    for part in ["reloaded in", "reload failed", "is due for recycling", "worker died", "template died", "request lost"]:
        if part in line:
            said[part] += 1


def resize(pid):
    """Back to the two workers of the start: the server never has more than 16, nor less than one."""
    for order in [signal.SIGTTOU] * 16 + [signal.SIGTTIN]:
        os.kill(pid, order)
        time.sleep(0.2)  # signals that come at once count once


def leaked(pid, said):
    """KiB by which a server without clients grows with each reload."""
    before = 0
    for number in range(WARM_UP + RELOADS):
        if number == WARM_UP:
            before = cost(pid)[1]
        done = said["reloaded in"]
        os.kill(pid, signal.SIGHUP)
        until = time.monotonic() + 30
        while said["reloaded in"] == done and time.monotonic() < until:
            time.sleep(0.01)
    return (cost(pid)[1] - before) * 1024 / RELOADS


def settled(pid):
    """The least of what it costs for a while: generations before the last one are still leaving."""
    looks = []
    for _ in range(20):
        time.sleep(0.5)
        looks.append(cost(pid))
    return min(looks)


def cost(pid):
    """Open descriptors, and resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
