"""The pages of the matrix, by the last segment of the path; as WSGI and as ASGI.

``page`` has a length, ``streamed`` has none, ``unread`` answers without reading the body,
``nocontent`` is a 204 that claims a length, ``file`` is a ``wsgi.file_wrapper``, ``internal`` an
``X-Accel-Redirect``. Pages end with the body of the request.
"""

import os

FILLER = b"0123456789abcdef" * 256
# So much that no server has all of it before it sends the head.
LONG = FILLER * 24
TAG = '"matrix"'
TEXT = ("Content-Type", "text/plain")


def answer(name, cookie, condition, body):
    """Status, fields and pieces."""
    if name == "nocontent":
        return "204 No Content", [("Content-Length", "0")], []
    if name == "unread":
        return "403 Forbidden", [TEXT, ("Content-Length", "2")], [b"no"]
    if condition == TAG:
        return "304 Not Modified", [("ETag", TAG), ("Content-Length", "0")], []
    filler = LONG if name == "streamed" else FILLER
    pieces = [("cookie: %s\n" % cookie).encode("latin-1"), filler, b"body: " + body]
    fields = [TEXT, ("ETag", TAG)]
    if name != "streamed":
        fields.append(("Content-Length", str(sum(map(len, pieces)))))
    return "200 OK", fields, pieces


def application(environ, start_response):
    name = environ["PATH_INFO"].split("/")[-1]
    if name == "file":
        path = os.path.join(os.environ["MATRIX_FILES"], "large.bin")
        start_response("200 OK", [TEXT, ("Content-Length", str(os.path.getsize(path)))])
        return environ["wsgi.file_wrapper"](open(path, "rb"))
    if name == "internal":
        start_response("200 OK", [TEXT, ("X-Accel-Redirect", "/protected/large.bin")])
        return []
    body = b""
    if name != "unread":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    cookie = environ.get("HTTP_COOKIE", "")
    condition = environ.get("HTTP_IF_NONE_MATCH")
    status, fields, pieces = answer(name, cookie, condition, body)
    start_response(status, fields)
    return iter(pieces)


async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
        return
    name = scope["path"].split("/")[-1]
    fields = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    body, more = b"", name != "unread"
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    found = answer(name, fields.get("cookie", ""), fields.get("if-none-match"), body)
    head = [(key.lower().encode(), value.encode()) for key, value in found[1]]
    await send({"type": "http.response.start", "status": int(found[0][:3]), "headers": head})
    if scope["method"] != "HEAD":
        for piece in found[2]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})
