"""Tells whether the server changed the list of headers that the last request gave it."""

import probe

HEADERS = [("Content-Type", "text/plain"), ("X-Mine", "1"), ("Connection", "close")]
given = list(HEADERS)


def application(environ, start_response):
    changed = given != HEADERS
    given[:] = HEADERS
    start_response("200 OK", given)
    yield b"changed" if changed else b"the same"
