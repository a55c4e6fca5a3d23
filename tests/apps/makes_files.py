"""Makes the file that a request asks for in ``MADE``, and redirects to the same URL."""

import os

import probe


def application(environ, start_response):
    path = environ["PATH_INFO"]
    probe.note("made " + path)
    with open(os.environ["MADE"] + path, "w") as made:
        made.write("made for " + path)
    start_response("302 Found", [("Location", path), ("Content-Length", "0")])
    return []
