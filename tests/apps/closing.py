"""Notes each close() of its iterable, with a token of the request.

``how``: normal, empty, piece_fails, first_fails, close_fails, list, held.
"""

import probe


class Body:
    def __init__(self, how, token, pieces=(b"one", b"two")):
        self.how, self.token = how, token
        self.pieces = iter(() if how == "empty" else pieces)

    def __iter__(self):
        return self

    def __next__(self):
        if self.how == "first_fails":
            raise RuntimeError("first piece fails")
        piece = next(self.pieces)
        if self.how == "piece_fails" and piece == b"two":
            raise RuntimeError("second piece fails")
        return piece

    def close(self):
        if self.how == "held":
            probe.wait("in close")
        probe.note("closed " + self.token)
        if self.how == "close_fails":
            raise RuntimeError("close fails")


class ListBody(list):
    def close(self):
        probe.note("closed " + self.token)


def application(environ, start_response):
    query = probe.query(environ)
    how, token = query.get("how", "normal"), query.get("token", "none")
    probe.note("called " + token)
    status = query.get("status", "200 OK")
    start_response(status, [] if status[0] in "13" else [("Content-Type", "text/plain")])
    if how == "list":
        body = ListBody([b"one", b"two"])
        body.token = token
        return body
    return Body(how, token)
