"""Prints to both standard streams; `?errors=N` writes N bytes to wsgi.errors."""

import sys

import probe


def application(environ, start_response):
    query = probe.query(environ)
    print("printed to standard output")
    print("printed to standard error", file=sys.stderr)
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.flush()
    line = "x" * 1023 + "\n"
    for _ in range(int(query.get("errors", "0")) // len(line)):
        environ["wsgi.errors"].write(line)
    return probe.plain(start_response, "ok")
