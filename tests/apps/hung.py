"""Requests that do not end by themselves, each in its own way. ``/`` ends at once.

What ends them is noted, and the number of the process is the usual answer.
"""

import ctypes
import os
import random
import threading
import time

import probe


def application(environ, start_response):
    path = environ["PATH_INFO"]
    kind = path.strip("/").split("-")[0]
    probe.note("called " + path)
    try:
        if kind == "ticks":
            return ticks(start_response)
        if kind == "stream":
            return stream(path, start_response)
        if kind == "wait":
            probe.wait(path)
        elif kind:
            globals()[kind]()
    except BaseException as error:
        probe.note("%s ended by %s" % (path, type(error).__name__))
        raise
    return probe.plain(start_response, str(os.getpid()))


def sleeps():
    time.sleep(60)


def loops():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass


def near():
    """As long as the deadline of the test, or a little more or less."""
    end = time.monotonic() + random.uniform(0.18, 0.22)
    while time.monotonic() < end:
        pass


def swallows():
    """Goes on, whatever is raised."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            while time.monotonic() < deadline:
                pass
        except BaseException:
            probe.note("swallowed")


def holds():
    """Keeps the interpreter to itself, in C, where no exception reaches it."""
    ctypes.PyDLL(None).sleep(60)


def computes():
    """The same, with work instead of waiting."""
    sum(range(1 << 62))


def stream(path, start_response):
    """Three pieces, each when the test wants it."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        for number in range(3):
            yield b"piece %d" % number
            probe.wait(path)
    except BaseException as error:
        probe.note("%s ended by %s" % (path, type(error).__name__))
        raise


def ticks(start_response):
    """Pieces until the test says so, none of them late, then the end."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    waiter = threading.Thread(target=probe.wait, args=["/ticks"])
    waiter.start()
    while waiter.is_alive():
        waiter.join(0.1)
        yield b"tick"
    yield b" end"
