"""write() one piece, then wait for the test before the next."""

import probe


def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one")
    probe.wait("after one")
    write(b"two")
    return []
