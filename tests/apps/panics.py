"""Raises what a panic in the host becomes, so that the host panics; ``/`` tells its pid.

A library of its own could not: each has its own class for that.
"""

import os

import probe


def application(environ, start_response):
    probe.note("called " + environ["PATH_INFO"])
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    if environ["PATH_INFO"] == "/panic":
        panic()
    return probe.plain(start_response, str(os.getpid()))


def stream():
    yield b"the beginning"
    probe.wait("stream")
    panic()


def panic():
    kinds = BaseException.__subclasses__()
    raise next(kind for kind in kinds if kind.__name__ == "PanicException")("on purpose")
