"""Calls `breakpoint()`; with `AT_IMPORT` set, also when it is imported."""

import os
import pdb

called = []
if "AT_IMPORT" in os.environ:
    breakpoint()
    called.append("import")


def custom():
    called.append("custom")


def application(environ, start_response):
    value = 41
    if environ["PATH_INFO"] == "/break":
        breakpoint()
        value += 1
    elif environ["PATH_INFO"] == "/pdb":
        pdb.set_trace()
        value += 1
    elif environ["PATH_INFO"] == "/post-mortem":
        try:
            value /= 0
        except ZeroDivisionError:
            pdb.post_mortem()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("value %d %s" % (value, called)).encode()]
