"""Returns wsgi.file_wrapper over a source named by ``of``; notes calls of close().

``of``: file, bytesio, reader, wrapped. ``seek`` skips bytes, ``length`` is declared.
"""

import io
import os
import tempfile

import probe

CONTENT = b"".join(b"%07d\n" % number for number in range(20_000))


class Reader:
    """Only read() and close()."""

    def __init__(self):
        self.inner = io.BytesIO(CONTENT)

    def read(self, size=-1):
        return self.inner.read(size)

    def close(self):
        probe.note("closed reader")


class NotedFile(io.FileIO):
    def close(self):
        if not self.closed:
            probe.note("closed file")
        super().close()


def application(environ, start_response):
    query = probe.query(environ)
    of = query.get("of", "file")
    if of in ("file", "wrapped"):
        descriptor, path = tempfile.mkstemp()
        os.write(descriptor, CONTENT)
        os.close(descriptor)
        source = NotedFile(path)
        os.unlink(path)
        source.seek(int(query.get("seek", "0")))
    elif of == "bytesio":
        source = io.BytesIO(CONTENT)
        source.seek(int(query.get("seek", "0")))
    else:
        source = Reader()
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    start_response("200 OK", headers)
    wrapper = environ["wsgi.file_wrapper"](source, 4096)
    if of == "wrapped":
        # A middleware that looks at every piece: the server must not go round it.
        return (piece.replace(b"0", b"o") for piece in wrapper)
    return wrapper
