"""Server-sent events; the test lets each one go. Notes how the stream was closed."""

import probe


class Events:
    def __init__(self):
        self.sent = 0

    def __iter__(self):
        return self

    def __next__(self):
        probe.wait("before event %d" % self.sent)
        self.sent += 1
        return b"data: event %d\n\n" % (self.sent - 1)

    def close(self):
        probe.note("closed after %d" % self.sent)


def application(environ, start_response):
    headers = [("Content-Type", "text/event-stream")]
    query = probe.query(environ)
    if "buffering" in query:
        headers.append(("X-Accel-Buffering", query["buffering"]))
    start_response("200 OK", headers)
    return Events()
