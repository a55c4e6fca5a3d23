"""A redirect and a cookie built from user input, without a check."""

import probe


def application(environ, start_response):
    query = probe.query(environ)
    start_response(
        query.get("status", "302 Found"),
        [("Location", query.get("to", "/")), ("Set-Cookie", "a=" + query.get("cookie", ""))],
    )
    return []
