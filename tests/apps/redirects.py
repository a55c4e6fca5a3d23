"""Answers with the field named by ``field`` and the value in ``to``, and a body that nobody is to see."""

import probe


def application(environ, start_response):
    query = probe.query(environ)
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/pdf"),
            ("Content-Disposition", 'attachment; filename="report.pdf"'),
            ("Set-Cookie", "seen=1"),
            (query["field"], query["to"]),
        ],
    )
    return [b"not this"]
