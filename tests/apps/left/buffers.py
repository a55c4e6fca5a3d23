"""Leaves text in the buffers of a file and of a log handler when it is imported."""

import logging
import logging.handlers
import os

import probe

journal = open(os.environ["JOURNAL"], "a")
journal.write("journal\n")
target = logging.FileHandler(os.environ["JOURNAL"])
handler = logging.handlers.MemoryHandler(100, target=target)
logging.getLogger().addHandler(handler)
logging.error("held back")


def application(environ, start_response):
    return probe.plain(start_response, environ["QUERY_STRING"])
