"""Fails with exc_info, holding an object in the frame; ``?count`` tells how many live."""

import gc
import sys

import probe


class Marker:
    alive = 0

    def __init__(self):
        Marker.alive += 1

    def __del__(self):
        Marker.alive -= 1


def application(environ, start_response):
    if "count" in probe.query(environ):
        gc.collect()
        return probe.plain(start_response, str(Marker.alive))
    return fail(environ, start_response)


def fail(environ, start_response):
    marker = Marker()
    try:
        raise RuntimeError(marker)
    except RuntimeError:
        start_response(
            "500 Oops", [("Content-Type", "text/plain")], sys.exc_info()
        )
    return [b"failed"]
