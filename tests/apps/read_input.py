"""Reads wsgi.input by the calls named in the query; returns the pieces as JSON.

``do=read``, ``read:-1``, ``read:5``, ``readline``, ``readline:5``, ``readlines``,
``readlines:5``, ``iterate``; several are separated by spaces.
"""

import json

import probe


def application(environ, start_response):
    stream = environ["wsgi.input"]
    pieces = []
    for call in probe.query(environ).get("do", "read").split():
        name, _, argument = call.partition(":")
        arguments = [int(argument)] if argument else []
        if name == "iterate":
            piece = list(stream)
        else:
            piece = getattr(stream, name)(*arguments)
        pieces.append(repr(piece))
    about = {
        "pieces": pieces,
        "length": environ.get("CONTENT_LENGTH"),
        "terminated": environ.get("wsgi.input_terminated"),
        "coding": environ.get("HTTP_TRANSFER_ENCODING"),
    }
    return probe.plain(start_response, json.dumps(about))
