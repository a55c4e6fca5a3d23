"""Streams until it is closed; notes how that went."""

import probe


class Endless:
    def __init__(self):
        self.sent = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.sent += 1
        if self.sent == 3:
            # The test leaves now; so the pieces after the leave can be counted.
            probe.wait("streaming")
            self.sent = 3
        if self.sent > 100_000:
            raise StopIteration
        return b"piece\n" * 100

    def close(self):
        probe.note("closed after %d" % self.sent)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Endless()
