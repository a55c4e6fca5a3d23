"""Sends the header named by ``name`` beside headers of its own Date and Server."""

import probe


def application(environ, start_response):
    query = probe.query(environ)
    headers = [("Content-Type", "text/plain")]
    if "name" in query:
        headers.append((query["name"], query.get("value", "x")))
    start_response("200 OK", headers)
    return [b"ok"]
