"""Starts again with exc_info when headers are out; notes what that raised."""

import sys

import probe


class Late(Exception):
    pass


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"the beginning"
    try:
        raise Late("too late")
    except Late:
        try:
            start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        except Late as error:
            names = []
            traceback = error.__traceback__
            while traceback:
                names.append(traceback.tb_frame.f_code.co_name)
                traceback = traceback.tb_next
            probe.note("raised %s in %s" % (error, " ".join(names)))
            raise
    yield b"never sent"
