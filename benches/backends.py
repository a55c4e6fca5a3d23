"""Servers behind pyserve for `attacks.py`: one of HTTP, one of uwsgi. A request for `/.../N` is answered with N bytes."""

import contextlib
import multiprocessing
import re
import socket
import threading

PIECE = bytes(64 << 10)


@contextlib.contextmanager
def serving():
    """The ports of both, in a process of their own."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=4000) for _ in range(2)]
    process = multiprocessing.Process(target=accept, args=listeners, daemon=True)
    process.start()
    try:
        yield [listener.getsockname()[1] for listener in listeners]
    finally:
        process.kill()
        process.join()


def accept(http, uwsgi):
    threading.stack_size(256 << 10)
    for listener, answer in ((http, answer_http), (uwsgi, answer_uwsgi)):
        threading.Thread(target=accept_all, args=(listener, answer)).start()


def accept_all(listener, answer):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, answer), daemon=True).start()


def serve(connection, answer):
    with connection, contextlib.suppress(OSError, EOFError):
        answer(connection)


def answer_http(connection):
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += received(connection)
        send(connection, re.match(rb"GET \S*/(\d+)", head)[1])


def answer_uwsgi(connection):
    packet = b""
    while len(packet) < 4 or len(packet) < 4 + int.from_bytes(packet[1:3], "little"):
        packet += received(connection)
    send(connection, re.search(rb"PATH_INFO..[^\0]*/(\d+)", packet, re.DOTALL)[1])


def received(connection):
    read = connection.recv(1 << 16)
    if not read:
        raise EOFError
    return read


def send(connection, length):
    left = int(length)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left:
        connection.sendall(PIECE[:left])
        left -= min(left, len(PIECE))
