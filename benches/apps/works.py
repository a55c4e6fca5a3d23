"""The kinds of work of compare.py, by path: the costs beside those of the smallest application, `hello.py`.

`/10k` answers with 10 KiB, `/upload` with the length of the body that it reads, `/wait` after 20 ms of waiting,
`/short` after 1 ms of CPU time and `/long` after 50 ms; everything else at once.
"""

import time

HELLO = b"Hello, world!"
PAGE = b"x" * (10 << 10)
WAIT_S = 0.02
SHORT_S = 0.001
LONG_S = 0.05


def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = HELLO
    if path == "/10k":
        body = PAGE
    elif path == "/upload":
        received = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        body = b"%d" % len(received)
    elif path == "/wait":
        time.sleep(WAIT_S)
    elif path == "/short":
        burn(SHORT_S)
    elif path == "/long":
        burn(LONG_S)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def burn(seconds):
    """Uses CPU time of this thread: as much as asked, also where it has to wait for a CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
