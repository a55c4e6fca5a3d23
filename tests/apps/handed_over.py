"""Returns wsgi.file_wrapper over a file on disk, opened as ``how`` says.

``how``: plain, raw, tempfile, gzip, written. ``seek`` reads that many bytes first, ``length`` is declared.
``size`` takes a file of so many bytes, ``type`` is its media type.
"""

import gzip
import io
import os
import tempfile

import probe

SIZE = 24 << 20
PATH = os.path.join(os.environ.get("TMPDIR", "/tmp"), "handed-over-%d" % os.getpid())

# Every line tells where it stands.
with open(PATH, "wb") as file:
    file.write(b"".join(b"%07d\n" % number for number in range(SIZE // 8)))


class Closing:
    """Notes the close of what it stands for; reads through it and nothing else."""

    def __init__(self, file):
        self.file = file
        self.read = file.read

    def close(self):
        probe.note("closed")
        self.file.close()


def opened(how):
    if how == "raw":
        return io.FileIO(PATH)
    if how == "tempfile":
        copy = tempfile.NamedTemporaryFile()
        with open(PATH, "rb") as file:
            copy.write(file.read())
        copy.seek(0)
        return copy
    if how == "gzip":
        packed = PATH + ".gz"
        with open(PATH, "rb") as file, gzip.open(packed, "wb", 1) as out:
            out.write(file.read())
        return gzip.open(packed)
    return open(PATH, "rb")


def of_size(size):
    path = "%s-%d" % (PATH, size)
    if not os.path.exists(path):
        with open(PATH, "rb") as file, open(path, "wb") as out:
            out.write(file.read(size))
    return open(path, "rb")


def application(environ, start_response):
    query = probe.query(environ)
    how = query.get("how", "plain")
    if how == "small":
        return probe.plain(start_response, "small")
    file = of_size(int(query["size"])) if "size" in query else opened(how)
    file.read(int(query.get("seek", "0")))
    headers = [("Content-Type", query.get("type", "application/octet-stream"))]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    write = start_response("200 OK", headers)
    if how == "written":
        write(b"before ")
    return environ["wsgi.file_wrapper"](Closing(file))
