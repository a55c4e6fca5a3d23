"""What attacks are aimed at. Writes the path of every request but `/` to the file named by CALLED.

`/` answers at once, `/long` with 4 MiB, `/page` with 200 KB, `/slow` after 50 ms, `/unread` after 20 s in which it reads
nothing of the body, everything else with the length of the body.
"""

import os
import time

called = os.open(os.environ["CALLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
LONG = bytes(64 << 10)
PAGE = bytes(200_000)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        body = [b"hello\n"]
    else:
        os.write(called, path.encode() + b"\n")
        if path in ("/long", "/page"):
            body = [LONG] * 64 if path == "/long" else [PAGE]
        elif path in ("/slow", "/unread"):
            time.sleep(0.05 if path == "/slow" else 20)
            body = [b"slow"]
        else:
            body = [str(len(environ["wsgi.input"].read())).encode()]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(sum(map(len, body))))])
    return body
