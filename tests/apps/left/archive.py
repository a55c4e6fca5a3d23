"""Answers from an archive that is opened when this is imported."""

import io
import os
import tempfile
import zipfile

import probe

handle, name = tempfile.mkstemp(suffix=".zip")
os.close(handle)
with zipfile.ZipFile(name, "w") as archive:
    for number in range(20):
        archive.writestr(str(number), ("%d " % number) * 20000)
archive = zipfile.ZipFile(name)
os.unlink(name)


def application(environ, start_response):
    token = environ["QUERY_STRING"]
    number = int(token) % 20
    text = archive.read(str(number)).decode()
    return probe.plain(start_response, token if text == ("%d " % number) * 20000 else "mixed up")
