"""The same body in the shapes named by ``as``; with ``length`` its length is declared."""

import probe


def application(environ, start_response):
    query = probe.query(environ)
    headers = [("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    start_response("200 OK", headers)
    pieces = [b"01234", b"56789"]
    shape = query.get("as", "one")
    if shape == "one":
        return [b"".join(pieces)]
    if shape == "tuple":
        return (b"".join(pieces),)
    if shape == "two":
        return pieces
    if shape == "nothing":
        return []
    return (piece for piece in pieces)
