"""Raises the built-in exception named by ``what``; ``after`` says when."""

import builtins

import probe


def application(environ, start_response):
    query = probe.query(environ)
    error = getattr(builtins, query.get("what", "ZeroDivisionError"))
    probe.note("called " + query.get("token", "none"))
    if query.get("after") == "piece":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces(error)
    raise error("secret of the application")


def pieces(error):
    yield b"the beginning"
    raise error("secret of the application")
