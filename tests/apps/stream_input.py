"""Reads its body piece by piece and tells how far it came.

``how``: pieces (notes each), all, none, echo (answers each piece while the next arrives).
"""

import hashlib

import probe


def pieces(stream):
    while True:
        piece = stream.read1(65536)
        if not piece:
            return
        yield piece


def application(environ, start_response):
    how = probe.query(environ).get("how", "all")
    stream = environ["wsgi.input"]
    if how == "none":
        return probe.plain(start_response, "not read")
    if how == "echo":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return pieces(stream)
    try:
        if how == "pieces":
            body = b""
            for piece in pieces(stream):
                probe.note("got " + piece.decode("latin-1"))
                body += piece
        elif how == "lines":
            body = b"".join(stream)
        else:
            body = stream.read()
    except OSError as error:
        probe.note("broken: %s" % error)
        try:
            stream.read()
        except OSError:
            probe.note("still broken")
        return probe.plain(start_response, "broken", "400 Bad Request")
    told = "%d %s %s" % (
        len(body),
        hashlib.sha256(body).hexdigest(),
        environ.get("CONTENT_LENGTH", "no length"),
    )
    return probe.plain(start_response, told)
