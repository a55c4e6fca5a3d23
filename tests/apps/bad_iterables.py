"""Returns something that is no iterable of bytes, named by ``kind``."""

import probe

KINDS = {
    "str": "text",
    "str piece": ["text"],
    "none": None,
    "none piece": [None],
    "bytes": b"bare",
    "number": 7,
}


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return KINDS[probe.query(environ)["kind"]]
