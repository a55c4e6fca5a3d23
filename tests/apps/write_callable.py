"""Sends one part of the body by write() and the rest by the iterable."""


def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written, ")
    write(b"twice, ")
    return [b"then ", b"iterated"]
