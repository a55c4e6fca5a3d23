"""Notes that it was called, and with how long a body; ``?ignore`` leaves the body alone."""

import probe


def application(environ, start_response):
    where = environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"]
    probe.note("called " + where)
    if "ignore" in probe.query(environ):
        return probe.plain(start_response, "ignored")
    body = environ["wsgi.input"].read(-1)
    probe.note("body of %s: %d bytes" % (where, len(body)))
    return probe.plain(start_response, "%d" % len(body))
