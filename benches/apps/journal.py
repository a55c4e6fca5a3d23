"""Writes the id of every request it runs to the file named by JOURNAL, then answers.

`/fast` answers at once, `/slow` after 20 ms, `/upload` with the digest of the body.
"""

import hashlib
import os
import time

journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def application(environ, start_response):
    line = "{} {}\n".format(environ["QUERY_STRING"], os.getpid())
    os.write(journal, line.encode())
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(0.02)
    body = b"done\n"
    if path == "/upload":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
