"""Writes the number of every request it runs (its query) into the file LEDGER.

``/slow`` takes a second, ``/leak`` keeps 128 KiB each time, ``/drip`` 32 KiB.
"""

import os
import time

import probe

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
kept = []


def application(environ, start_response):
    os.write(ledger, b"%s %d\n" % (environ["QUERY_STRING"].encode(), os.getpid()))
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(1)
    if path == "/leak":
        kept.append(bytearray(b"x" * 131072))
    if path == "/drip":
        kept.append(bytearray(b"x" * 32768))
    return probe.plain(start_response, str(os.getpid()))
