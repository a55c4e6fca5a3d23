"""The default page of the site: upload an application to /home/site/wwwroot to replace it."""

import os

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostingstart.html")


def application(environ, start_response):
    if environ["PATH_INFO"] not in ("", "/"):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not found\n"]
    with open(PAGE, "rb") as file:
        page = file.read()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))])
    return [page]
