"""Writes into a temporary directory that is made when this is imported."""

import os
import tempfile

import probe

scratch = tempfile.TemporaryDirectory()
probe.note("directory %s" % scratch.name)


def application(environ, start_response):
    path = os.path.join(scratch.name, "file-%d" % os.getpid())
    with open(path, "w") as file:
        file.write(environ["QUERY_STRING"])
    with open(path) as file:
        return probe.plain(start_response, file.read())
