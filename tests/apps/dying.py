"""Ends its own worker process in the way named by the path; ``/`` tells its pid."""

import ctypes
import os
import signal

import probe


def application(environ, start_response):
    how = environ["PATH_INFO"]
    probe.note("called " + how)
    if how == "/exit":
        os._exit(3)
    if how == "/segv":
        ctypes.string_at(0)
    if how == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "/wait":
        probe.wait(how)
    if how == "/halfway":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return halfway()
    return probe.plain(start_response, str(os.getpid()))


def halfway():
    yield b"the beginning"
    probe.wait("halfway")
    os._exit(1)
