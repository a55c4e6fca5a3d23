"""Fails before anything is sent and starts again with exc_info.

With ``?after=empty`` an empty chunk has been yielded before that.
"""

import sys

import probe


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-First", "1")])
    if probe.query(environ).get("after") == "empty":
        yield b""
    try:
        raise RuntimeError("on purpose")
    except RuntimeError:
        start_response("503 Sorry", [("Content-Type", "text/html")], sys.exc_info())
    yield b"<p>sorry"
