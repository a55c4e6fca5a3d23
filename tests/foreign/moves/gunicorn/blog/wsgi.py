"""A site without a framework."""

import json


def application(environ, start_response):
    if environ["PATH_INFO"] == "/missing":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there is no such post\n"]
    names = ["PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "HTTP_HOST", "wsgi.url_scheme", "wsgi.multithread"]
    found = {name: environ[name] for name in names}
    found["length"] = len(environ["wsgi.input"].read())
    body = json.dumps(found, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
