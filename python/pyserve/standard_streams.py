"""Standard output and standard error whose errors never fail a request.

They are logs here. With a full disk, a closed pipe or a stalled reader, text is lost: a
`print` neither raises nor blocks forever. The host runs `install` before the import.
"""

import io
import os
import select
import stat
import sys

# pipe(7): this much fits if poll(2) reports a pipe as writable.
PIECE = 4096
# Time that the first write waits for a stalled reader; the next ones do not wait.
PATIENCE_MS = 1000

# Libraries such as gevent replace or remove it.
poll = select.poll


class Stream(io.FileIO):
    """The descriptor of a log."""

    def __init__(self, fd, name):
        super().__init__(fd, "w", closefd=False)
        self.name = name
        mode = os.fstat(fd).st_mode
        self._may_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._has_stalled = False

    def write(self, data):
        octets = memoryview(data).cast("B")
        at = 0
        while at < len(octets) and (not self._may_wait or self._has_room()):
            try:
                written = super().write(octets[at : at + PIECE])
            except OSError:
                break
            if written is None and not self._has_room():
                break
            at += written or 0
        return len(octets)

    def _has_room(self):
        watched = poll()
        watched.register(self.fileno(), select.POLLOUT)
        has_room = bool(watched.poll(0 if self._has_stalled else PATIENCE_MS))
        self._has_stalled = not has_room
        return has_room


def install():
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A stream that other code has replaced is left alone.
        if type(stream) is io.TextIOWrapper and stream is getattr(sys, "__%s__" % name):
            replacement = tolerant(stream)
            setattr(sys, name, replacement)
            setattr(sys, "__%s__" % name, replacement)


def tolerant(stream):
    """The text stream over a `Stream`; each line is written at once."""
    raw = Stream(stream.fileno(), stream.name)
    try:
        stream.flush()
    except OSError:
        pass
    replacement = io.TextIOWrapper(
        io.BufferedWriter(raw) if isinstance(stream.buffer, io.BufferedWriter) else raw,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=True,
        write_through=stream.write_through,
    )
    replacement.mode = "w"
    return replacement
