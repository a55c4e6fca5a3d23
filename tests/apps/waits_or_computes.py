"""Under ``/wait…`` it waits until the test lets it go, under ``/compute…`` it computes until then.

The answer is the number of the process and ``wsgi.multiprocess``. With ``MOST_WORKERS`` there is
something, such as connections of a database, for so many workers only.
"""

import os
import threading

import probe

MOST = int(os.environ.get("MOST_WORKERS", "1000"))

if MOST < 1000:
    import pyserve

    @pyserve.after_fork
    def connect():
        if pyserve.worker_id() >= MOST:
            os._exit(1)


def application(environ, start_response):
    place = environ["PATH_INFO"]
    if place.startswith("/wait"):
        probe.wait(place)
    elif place.startswith("/compute"):
        compute(place)
    return probe.plain(start_response, "%d %s" % (os.getpid(), environ["wsgi.multiprocess"]))


def compute(place):
    is_over = threading.Event()

    def wait():
        probe.wait(place)
        is_over.set()

    threading.Thread(target=wait).start()
    while not is_over.is_set():
        pass
