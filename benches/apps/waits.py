"""``/wait`` waits 20 ms, as for a database; ``/compute`` takes 10 ms of CPU time; ``/both`` 2 ms and 20 ms."""

import time

BODY = b"done"


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/compute", "/both"):
        end = time.thread_time() + (0.010 if path == "/compute" else 0.002)
        while time.thread_time() < end:
            pass
    if path in ("/wait", "/both"):
        time.sleep(0.020)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
