"""Says what it was asked, or something else that the path names. Runs under any server."""

import hashlib
import json


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/status/"):
        start_response(path[8:] + " Some Words", [("X-Case", "Kept"), ("ETag", '"tag"')])
        return []
    if path.startswith("/expired/"):
        start_response(path[9:] + " Some Words", [("Expires", "Thu, 01 Jan 1970 00:00:01 GMT")])
        return []
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"piece %d\n" % n for n in range(100))
    if path == "/long":
        start_response("200 OK", [("Content-Length", str(5 << 20))])
        return (bytes([n % 256]) * 65536 for n in range(80))
    if path == "/cookies":
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "0")])
        return []
    if path == "/redirect":
        start_response("302 Found", [("Location", "/there?x=1"), ("Content-Length", "0")])
        return []
    if path == "/unread":
        start_response("403 Forbidden", [("Content-Length", "2")])
        return [b"no"]
    if path == "/accel":
        start_response("200 OK", [("X-Accel-Redirect", "/protected/file.txt"), ("Content-Length", "0")])
        return []
    length = -1 if path == "/terminated" else int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    told = {
        "environ": {key: value for key, value in environ.items() if isinstance(value, str)},
        "scheme": environ["wsgi.url_scheme"],
        "body": [len(body), hashlib.sha256(body).hexdigest()],
    }
    page = json.dumps(told, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(page)))])
    return [page]
