"""A body in three pieces; the test lets the second and third go."""

import probe


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one"
    probe.wait("after one")
    yield b"two"
    probe.wait("after two")
    yield b"three"
