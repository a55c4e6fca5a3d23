"""Makes the file that a request asks for in ``MADE``, and redirects to the same URL."""

import os
import urllib.parse

import probe


def application(environ, start_response):
    # PEP 3333: each character is a byte.
    name = environ["PATH_INFO"].encode("latin-1")
    path = urllib.parse.quote(name)
    probe.note("made " + path)
    with open(os.environb[b"MADE"] + name, "w") as made:
        made.write("made for " + path)
    start_response("302 Found", [("Location", path), ("Content-Length", "0")])
    return []
