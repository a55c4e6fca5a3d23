"""Clients of Python: what a library makes of the same few answers, as JSON.

``clients.py requests|httpx|httpx2 URL``. Bodies are latin-1.
"""

import json
import sys

BODY = b"any bytes\0\r\n\xff" * 1000


def pieces():
    for at in range(0, len(BODY), 1000):
        yield BODY[at : at + 1000]


def session(library):
    if library == "requests":
        import requests

        return requests.Session()
    import httpx

    return httpx.Client(http1=library == "httpx", http2=library == "httpx2")


def main(library, url):
    with session(library) as client:
        body = "data" if library == "requests" else "content"
        answers = [
            client.get(url + "/app/page"),
            client.get(url + "/app/streamed"),
            client.head(url + "/app/page"),
            client.get(url + "/static/large.bin"),
            client.get(url + "/static/large.bin", headers={"Range": "bytes=2-5"}),
            client.get(url + "/static/style.css"),
            client.post(url + "/app/page", **{body: BODY}),
            client.post(url + "/app/page", **{body: pieces()}),
            client.get(url + "/app/nocontent"),
            client.get(url + "/static/small.bin"),
        ]
        print(json.dumps([[answer.status_code, answer.content.decode("latin-1")] for answer in answers]))


main(*sys.argv[1:])
