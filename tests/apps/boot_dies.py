"""Ends its process after the import, when a worker starts."""

import os

os.register_at_fork(after_in_child=lambda: os._exit(9))


def application(environ, start_response):
    raise AssertionError("never called")
