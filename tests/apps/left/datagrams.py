"""Asks a server that echoes datagrams, on a socket that is connected when this is imported."""

import os
import socket

import probe

connection = socket.socket(type=socket.SOCK_DGRAM)
connection.connect(("127.0.0.1", int(os.environ["ECHO_PORT"])))
connection.settimeout(30)


def application(environ, start_response):
    connection.send(environ["QUERY_STRING"].encode())
    return probe.plain(start_response, connection.recv(100))
