"""How a test application talks to its test: notes, and places to wait at.

The other end is ``tests/support/probe.rs``. Without the environment variable ``PROBE``
both do nothing, so every application also runs by hand.
"""

import os
import socket


def note(text):
    """Send one line to the test."""
    directory = os.environ.get("PROBE")
    if directory:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode("latin-1"), os.path.join(directory, "notes"))


def wait(place):
    """Say that ``place`` is reached; go on when the test says so or has gone."""
    directory = os.environ.get("PROBE")
    if directory:
        with socket.socket(socket.AF_UNIX) as gate:
            gate.settimeout(60)
            gate.connect(os.path.join(directory, "gate"))
            gate.sendall(place.encode() + b"\n")
            gate.recv(1)


def query(environ):
    """The query string as a dict of latin-1 strings; the last of equal names wins."""
    from urllib.parse import parse_qsl

    return dict(
        parse_qsl(environ["QUERY_STRING"], keep_blank_values=True, encoding="latin-1")
    )


def plain(start_response, body, status="200 OK"):
    """A complete plain text response."""
    if isinstance(body, str):
        body = body.encode("latin-1")
    start_response(
        status,
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
    )
    return [body]
