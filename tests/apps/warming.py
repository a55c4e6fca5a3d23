"""Fills a cache on its first request, some 40 MiB of small objects as warmed applications
have them, and tells who it is, who forked it, and who filled the cache.

Writes the query of every request into the file LEDGER, if there is one. ``/thread`` leaves a
thread running.
"""

import os
import threading

import probe

ledger = os.environ.get("LEDGER")
ledger = ledger and os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
cache = {}
filled_by = 0


def fill():
    global filled_by
    filled_by = os.getpid()
    cache.update({"key %d" % n: "value %d " % n * 20 for n in range(100000)})


def application(environ, start_response):
    if ledger:
        os.write(ledger, b"%s %d\n" % (environ["QUERY_STRING"].encode(), os.getpid()))
    if not cache:
        fill()
    if environ["PATH_INFO"] == "/thread":
        wait = threading.Event().wait
        threading.Thread(target=wait, name="background", daemon=True).start()
    about = "%d %d %d" % (os.getpid(), os.getppid(), filled_by)
    return probe.plain(start_response, about)
