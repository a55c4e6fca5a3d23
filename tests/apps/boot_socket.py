"""Leaves a connection open when it is imported; so it must not be forked."""

import os
import socket

import probe

probe.note("imported by %d" % os.getpid())
listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())


def application(environ, start_response):
    return probe.plain(start_response, str(os.getpid()))
