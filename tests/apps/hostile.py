"""Damages what its worker shares with the server, as a wild pointer or an attacker would."""

import array
import ctypes
import os
import re
import socket
import struct

import probe


def mapping(name):
    """Address and length of this shared memory in this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if name in line:
                start, end = re.match(r"(\w+)-(\w+)", line).groups()
                return int(start, 16), int(end, 16) - int(start, 16)
    raise RuntimeError("no " + name)


def scoreboard():
    return mapping("pyserve-scoreboard")


def set_word(index, value):
    """Overwrites a word of the queue: src/wire/request_ring.rs has its layout."""
    start, _ = mapping("pyserve-queue")
    ctypes.c_uint64.from_address(start + 8 * index).value = value % (1 << 64)


def word(index):
    start, _ = mapping("pyserve-queue")
    return ctypes.c_uint64.from_address(start + 8 * index).value


def sockets(kind):
    """Descriptors of the Unix sockets of this kind that the worker has."""
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            if not os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                continue
            twin = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with twin:
            if twin.family == socket.AF_UNIX and twin.type == kind:
                found.append(int(name))
    return found


def queue():
    """The socket beside the queue of requests, which is older than that for orders."""
    return sockets(socket.SOCK_SEQPACKET)[0]


def channel():
    """The channel of the only thread."""
    return sockets(socket.SOCK_STREAM)[0]


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


def make_queue_blocking():
    os.set_blocking(queue(), True)


def take_descriptors():
    """Takes the messages of others with their descriptors, for a while."""
    with socket.socket(fileno=os.dup(queue())) as twin:
        twin.settimeout(0.5)
        try:
            while True:
                twin.recvmsg(64, 64)
        except OSError:
            pass
    os.set_blocking(queue(), True)


TAIL, HEAD, END, WAITING = 8, 16, 24, 32


def overwrite_header():
    set_word(0, -1)


def overwrite_queue():
    start, length = mapping("pyserve-queue")
    ctypes.memset(start, 0xFF, length)


def clear_queue():
    ctypes.memset(mapping("pyserve-queue")[0], 0, 4096)


def end_queue():
    set_word(END, 1)


def set_head_forward():
    for _ in range(200_000):
        set_word(HEAD, word(TAIL))


def set_head_beyond():
    set_word(HEAD, word(TAIL) + 1)


def set_head_back():
    for _ in range(20_000):
        set_word(HEAD, word(TAIL) - 5)


def set_tail_forward():
    set_word(TAIL, word(TAIL) + 3)


def set_tail_back():
    set_word(TAIL, word(TAIL) - 1)


def forget_waiting():
    for _ in range(200_000):
        set_word(WAITING, 0)


def claim_waiting():
    for _ in range(200_000):
        set_word(WAITING, -1)


def overwrite_slots():
    start, length = mapping("pyserve-queue")
    for _ in range(50):
        ctypes.memset(start + 4096 * 2, 0xA5, min(length - 8192, 4 << 20))


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
    if path == "/length":
        return probe.plain(start_response, str(len(environ["wsgi.input"].read())))
    globals()[path[1:]]()
    return probe.plain(start_response, "done")
