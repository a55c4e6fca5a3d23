"""Streams numbered blocks of 64 KiB; notes when all have been taken off it.

``blocks``: how many; ``length=yes``: with a Content-Length; ``buffering``: the value of
X-Accel-Buffering; ``dies=N``: the process is gone before block N.
"""

import os
import struct

import probe


def numbered(blocks, dies):
    for block in range(blocks):
        if block == dies:
            os._exit(1)
        yield struct.pack("<Q", block) * 8192
    probe.note("all taken")


def application(environ, start_response):
    query = probe.query(environ)
    blocks = int(query.get("blocks", 1))
    headers = [("Content-Type", "application/octet-stream")]
    if query.get("length") == "yes":
        headers.append(("Content-Length", str(blocks * 65536)))
    if "buffering" in query:
        headers.append(("X-Accel-Buffering", query["buffering"]))
    start_response("200 OK", headers)
    return numbered(blocks, int(query.get("dies", -1)))
