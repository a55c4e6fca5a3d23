"""One header from the query (``name``, ``value``), or the headers of a wrong ``kind``.

What start_response raised is noted, then raised again.
"""

import probe

GOOD = ("Content-Type", "text/plain")
KINDS = {
    "tuple": (GOOD,),
    "generator": (pair for pair in [GOOD]),
    "dict": dict([GOOD]),
    "none": None,
    "list pairs": [list(GOOD)],
    "triples": [GOOD + ("x",)],
    "byte name": [(b"X-Byte", "x")],
    "byte value": [("X-Byte", b"x")],
    "wide value": [("X-Wide", "\u20ac")],
    "number value": [("X-Number", 1)],
}


def application(environ, start_response):
    query = probe.query(environ)
    headers = KINDS[query["kind"]] if "kind" in query else [(query["name"], query["value"])]
    try:
        start_response("200 OK", headers)
    except Exception as error:
        probe.note("%s: %s" % (query.get("token"), type(error).__name__))
        raise
    return [b"accepted"]
