"""A body with what the query says about it.

``bytes``: how many (2,000); ``pieces``: stream them in so many; ``status``, ``length=no``,
``type=no``, and every other parameter as a header field, an underscore standing for a hyphen.
"""

import probe

TEXT = b'{"name": "value", "number": 12345},\n'


def application(environ, start_response):
    query = probe.query(environ)
    size = int(query.pop("bytes", 2000))
    pieces = int(query.pop("pieces", 0))
    status = query.pop("status", "200 OK")
    length = query.pop("length", "yes")
    body = (TEXT * (size // len(TEXT) + 1))[:size]
    is_typed = query.pop("type", "yes") == "yes" and "Content_Type" not in query
    headers = [("Content-Type", "application/json")] if is_typed else []
    headers += [(name.replace("_", "-"), value) for name, value in query.items()]
    if length == "yes" and status[:3] not in ("204", "304"):
        headers.append(("Content-Length", str(size)))
    start_response(status, headers)
    if status[:3] in ("204", "304"):
        return []
    if pieces:
        return (body[size * at // pieces : size * (at + 1) // pieces] for at in range(pieces))
    return [body]
