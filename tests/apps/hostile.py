"""Damages what its worker shares with the server, as a wild pointer or an attacker would."""

import array
import ctypes
import os
import re
import socket
import struct

import probe


def scoreboard():
    """Address and length of the scoreboard in this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "pyserve-scoreboard" in line:
                start, end = re.match(r"(\w+)-(\w+)", line).groups()
                return int(start, 16), int(end, 16) - int(start, 16)
    raise RuntimeError("no scoreboard")


def sockets(kind):
    """Descriptors of the Unix sockets of this kind that the worker has."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
            twin = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with twin:
            if twin.family == socket.AF_UNIX and twin.type == kind:
                waits = twin.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
                found.append((int(name), any(waits)))
    return found


def queue():
    """The queue of requests: the only one that receives for a limited time."""
    return [fd for fd, waits in sockets(socket.SOCK_SEQPACKET) if waits][0]


def channel():
    """The channel of the only thread."""
    return [fd for fd, _ in sockets(socket.SOCK_STREAM)][0]


def send(pieces, descriptor=None):
    with socket.socket(fileno=os.dup(channel())) as twin:
        for piece in pieces:
            rights = [] if descriptor is None else [
                (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            ]
            try:
                twin.sendmsg([piece], rights)
            except OSError:
                break


def frame(kind, payload=b"", length=None):
    return struct.pack("<IBxxxQI", length or len(payload), kind, 0, 0) + payload


def overwrite_start():
    start, _ = scoreboard()
    ctypes.memset(start, 0xFF, 8)


def overwrite_all():
    ctypes.memset(*[scoreboard()[0], 0xFF, scoreboard()[1]])


def clear_all():
    ctypes.memset(scoreboard()[0], 0, scoreboard()[1])


def shut_down_queue():
    with socket.socket(fileno=os.dup(queue())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def shut_down_receiving():
    with socket.socket(fileno=os.dup(queue())) as twin:
        twin.shutdown(socket.SHUT_RD)


def make_queue_nonblocking():
    os.set_blocking(queue(), False)


def send_descriptors():
    # The beginning of a long frame, and a descriptor with each further byte.
    send([frame(3, length=1 << 20)])
    with open("/dev/null") as file:
        send([b"x"] * 3000, file.fileno())


def send_nonsense():
    send([b"\xff" * 64])


def report_ready_for_ever():
    send([frame(1)] * 100_000)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        return probe.plain(start_response, str(os.getpid()))
    if path == "/blocks":
        return probe.plain(start_response, str(os.get_blocking(queue())))
    globals()[path[1:]]()
    return probe.plain(start_response, "done")
