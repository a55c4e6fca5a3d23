"""Answers with the body of the request."""

import probe


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return probe.plain(start_response, environ["wsgi.input"].read(length))
