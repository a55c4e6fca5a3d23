"""Opens a file with its first request."""

import os

import probe

file = None


def application(environ, start_response):
    global file
    if environ["PATH_INFO"] == "/open":
        file = open(__file__)
    return probe.plain(start_response, str(os.getpid()))
