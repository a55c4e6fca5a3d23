"""Damages what its worker shares with the server, as a wild pointer or an attacker would."""

import array
import ctypes
import os
import re
import socket
import struct
import time

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
    padding = bytes(-len(payload) % 8)
    return struct.pack("<IBxxxQIxxxx", length or len(payload), kind, 0, 0) + payload + padding


def reply_word(index):
    """A word of the reply memory of this worker: src/wire/reply_ring.rs has its layout."""
    start, _ = mapping("pyserve-replies")
    return ctypes.c_uint64.from_address(start + 8 * index)


FILE = 8
WRITTEN, READ, WAITS = 512, 520, 528
RING, DATA = 256 << 10, 8 * 1024


def write_replies(pieces):
    """Writes into the ring of the only thread, which the front empties meanwhile."""
    start, _ = mapping("pyserve-replies")
    for piece in pieces:
        written = reply_word(WRITTEN).value
        while written + len(piece) - reply_word(READ).value > RING:
            time.sleep(0.001)
        for at in range(0, len(piece), 8):
            place = start + DATA + (written + at) % RING
            ctypes.memmove(place, piece[at:at + 8], 8)
        reply_word(WRITTEN).value = written + len(piece)


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
    with open("/dev/null") as file:
        send([b"x"] * 3000, file.fileno())


def send_nonsense():
    write_replies([b"\xff" * 64])


def report_ready_for_ever():
    write_replies([frame(1)] * 100_000)


def write_beyond():
    reply_word(WRITTEN).value += RING + 8


def write_back():
    reply_word(WRITTEN).value = 0


def write_half_a_word():
    reply_word(WRITTEN).value += 3


def fill_replies():
    start, length = mapping("pyserve-replies")
    for _ in range(20):
        ctypes.memset(start, 0xFF, length)


def skip_all():
    """Says of all requests that they were skipped."""
    write_replies([struct.pack("<IBxxxQIxxxx", 0, 7, seq, 0) for seq in range(5000)])


def doorbells():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventfd" in os.readlink("/proc/self/fd/" + name):
                found.append(int(name))
        except OSError:
            pass
    return found


def ring_for_ever():
    for _ in range(50_000):
        for fd in doorbells()[:1]:
            os.write(fd, struct.pack("<Q", 1))


def fill_doorbell():
    for fd in doorbells():
        os.set_blocking(fd, False)
        os.write(fd, struct.pack("<Q", (1 << 64) - 2))


def empty_doorbell():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        for fd in doorbells():
            try:
                os.read(fd, 8)
            except OSError:
                pass


def let_front_sleep():
    """Denies that the front sleeps, so that nothing wakes it."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        reply_word(8).value = 0


def refuse_room():
    for _ in range(100_000):
        reply_word(WAITS).value = 1
        reply_word(READ).value = 0


def set_everything(value):
    """Overwrites all memory that this process shares with others."""
    with open("/proc/self/maps") as maps:
        places = [line.split()[0] for line in maps if " rw-s " in line]
    for place in places:
        start, end = (int(number, 16) for number in place.split("-"))
        ctypes.memset(start, value, end - start)


def frames_without_news():
    """Sends two files as a response does, without ringing the doorbell for their frames."""
    with open(__file__) as file:
        for _ in range(2):
            send([b"\0"], file.fileno())
            # The server has taken it by then, and waits for the frame.
            time.sleep(0.2)
            write_replies([frame(FILE, struct.pack("<QQ", 0, 1))])


def zero_everything():
    set_everything(0)


def fill_everything():
    set_everything(0xFF)


def close_everything():
    os.closerange(3, 1000)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        return probe.plain(start_response, str(os.getpid()))
    if path == "/length":
        return probe.plain(start_response, str(len(environ["wsgi.input"].read())))
    globals()[path[1:]]()
    return probe.plain(start_response, "done")
