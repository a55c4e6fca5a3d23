"""The status line named by ``status``, or the one of ``kind``, that no server may take.

What start_response raised is noted, then raised again.
"""

import probe

KINDS = {"bytes": b"200 OK", "none": None, "number": 200}


def application(environ, start_response):
    query = probe.query(environ)
    status = KINDS[query["kind"]] if "kind" in query else query["status"]
    headers = [("Content-Type", "text/plain")] if "plain" in query else []
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    try:
        start_response(status, headers)
    except Exception as error:
        probe.note("%s: %s" % (query.get("token"), type(error).__name__))
        raise
    return [b"body"] if "body" in query else []
