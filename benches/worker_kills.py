#!/usr/bin/env python3
"""Mixed load while a worker is killed every second: what is lost, and is anything run twice?

    cargo build --release && python3 benches/worker_kills.py --seconds 60

Eight keep-alive connections send fast, slow, upload and static requests, each with an id that
the application writes down before it does anything. A kill may cost only the requests inside
that worker, as a 502 on a connection that goes on. Exits with 1 if anything else happens.
"""

import argparse
import collections
import contextlib
import hashlib
import http.client
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import TARGET, TOP

CLIENTS = 8
UPLOAD = bytes(range(256)) * 800  # 200 KiB: goes through a file


class Client(threading.Thread):
    """One keep-alive connection, one request after the other until the end."""

    def __init__(self, number, port, until):
        super().__init__()
        self.number, self.port, self.until = number, port, until
        self.answers = {}
        self.errors = []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        choose = random.Random(self.number)
        digest = hashlib.sha256(UPLOAD).hexdigest().encode()
        count = 0
        while time.monotonic() < self.until:
            count += 1
            name = "{}-{}".format(self.number, count)
            path = choose.choice(["/fast", "/fast", "/fast", "/slow", "/upload", "/static/about.txt"])
            body = UPLOAD if path == "/upload" else None
            try:
                connection.request("POST" if body else "GET", path + "?" + name, body)
                response = connection.getresponse()
                content = response.read()
                if path == "/upload" and response.status == 200 and content != digest:
                    self.errors.append((name, "wrong body"))
                if response.getheader("connection") == "close":
                    self.errors.append((name, "connection closed after {}".format(response.status)))
                self.answers[name] = (path, response.status)
            except (OSError, http.client.HTTPException) as error:
                self.errors.append((name, repr(error)))
                connection.close()


@contextlib.contextmanager
def serving(options, app, journal, *more):
    """A pyserve with the application ``journal`` of folder ``app``: its process, and its port."""
    command = [
        options.binary, "--chdir", app, "--app", "journal", "--workers", "2", "--threads", "2",
        "--bind", "127.0.0.1:0", "--static", f"/static={TOP}/python/examples/static",
        "--access-log", "off", "--log-format", "pretty", *more,
    ]  # fmt: skip
    if options.python:
        command += ["--python", options.python]
    env = {**os.environ, "JOURNAL": str(journal), "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        port = None
        for line in server.stderr:
            if "listening on" in line:
                port = int(line.rsplit(":", 1)[1])
            if line.startswith("ready in"):
                break
        yield server, port
    finally:
        server.kill()
        server.wait()


def asking(port, until):
    """The clients, which ask until then."""
    clients = [Client(number, port, until) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    return clients


def ended(server, clients):
    """Waits for the clients, then ends the server; its exit code."""
    for client in clients:
        client.join()
    server.terminate()
    return server.wait(60)


def workers(server):
    """Process ids of the workers: the grandchildren of the server."""
    return [worker for template in children(server) for worker in children(template)]


def children(pid):
    """The processes that any thread of ``pid`` has started; none if it has gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def main():
    options = parse(60, 1, "seconds between two kills", __doc__)
    with tempfile.TemporaryDirectory() as work:
        sys.exit(run(options, Path(work) / "journal"))


def parse(seconds, every, every_what, description):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=seconds, help="default %(default)s")
    parser.add_argument("--every", type=float, default=every, help=f"{every_what}; default %(default)s")
    parser.add_argument("--python", help="interpreter of the application")
    parser.add_argument("--binary", type=Path, default=TARGET / "release/pyserve", help="default %(default)s")
    return parser.parse_args()


def run(options, journal):
    killed = set()
    with serving(options, TOP / "benches/apps", journal) as (server, port):
        threading.Thread(target=lambda: collections.deque(server.stderr, 0), daemon=True).start()
        until = time.monotonic() + options.seconds
        clients = asking(port, until)
        while time.monotonic() < until - options.every:
            time.sleep(options.every)
            running = workers(server.pid)
            if running:
                victim = random.choice(running)
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
        code = ended(server, clients)
    return report(clients, killed, journal, code)


def report(clients, killed, journal, code):
    ran = collections.defaultdict(list)
    for line in journal.read_text().splitlines():
        name, pid = line.split()
        ran[name].append(int(pid))
    answers = {name: answer for client in clients for name, answer in client.answers.items()}
    statuses = collections.Counter(status for _, status in answers.values())
    errors = [error for client in clients for error in client.errors]
    twice = [name for name, pids in ran.items() if len(pids) > 1]
    # A 502 is right only for a request that a killed worker had begun.
    wrong = [name for name, (_, status) in answers.items()
             if status != 200 and not (status == 502 and set(ran[name]) <= killed)]
    begun = sum(1 for name, (_, status) in answers.items() if status == 502 and ran[name])
    print("{} requests, {} kills: {}; {} of the 502 had begun; {} connection errors, {} run twice, {} wrongly failed; "
          "exit code {}".format(len(answers), len(killed), dict(statuses), begun, len(errors), len(twice), len(wrong), code))
    for name in [*errors[:5], *twice[:5], *wrong[:5]]:
        print("  ", name, (*answers.get(name, ()), "ran in", ran[name]) if isinstance(name, str) else "")
    return 1 if errors or twice or wrong or code else 0


if __name__ == "__main__":
    main()
