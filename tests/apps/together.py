"""Waits inside the request, then tells which objects it was given."""

import json
import os
import threading

import probe


def application(environ, start_response):
    token = probe.query(environ)["token"]
    write = start_response("200 OK", [("Content-Type", "application/json")])
    environ["test.token"] = token
    probe.wait("inside " + token)
    about = {
        "token": environ["test.token"],
        "input": environ["wsgi.input"].read().decode(),
        "environ": id(environ),
        "stream": id(environ["wsgi.input"]),
        "pid": os.getpid(),
        "thread": threading.get_ident(),
    }
    write(json.dumps(about).encode())
    return []
