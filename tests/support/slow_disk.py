"""A file system whose disk can stand still: `slow_disk.py DIRECTORY`.

Mounts itself there, by the kernel's FUSE protocol (linux/fuse.h, version 7.31), and needs root for
that. It has two files of SIZE bytes: `quick.bin`, and `stuck.bin`, whose reads are answered only
after a line on standard input; and `once.log`, which takes what is written, and whose second open
waits as well. Says `mounted`, and `held` for each request that waits. The end of standard input
unmounts it.
"""

import ctypes
import os
import struct
import sys
import threading

SIZE = 3 << 20
LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 16, 18, 25, 26
OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 36, 38, 42
ENOENT, ENOSYS = 2, 38
ROOT = 1
NODES = {b"quick.bin": 2, b"stuck.bin": 3, b"once.log": 4}
MNT_DETACH = 2

released = threading.Event()
opened_log = threading.Event()


def byte(node, offset):
    """Every place of both files is told from its neighbours."""
    return (offset * 31 + offset // 4096 + node) & 0xFF


def content(node, offset, size):
    end = min(offset + size, SIZE)
    return bytes(byte(node, at) for at in range(offset, end))


def attributes(node):
    mode, size = (0o040755, 4096) if node == ROOT else (0o100644, SIZE)
    times = (1_700_000_000,) * 3
    return struct.pack(
        "<6Q10I", node, size, size // 512, *times, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
    )


def reply(device, unique, body=b"", error=0):
    os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def read(device, unique, node, offset, size):
    if node == NODES[b"stuck.bin"] and not released.is_set():
        print("held", flush=True)
        released.wait()
    reply(device, unique, content(node, offset, size))


def open_node(device, unique, node):
    if node == NODES[b"once.log"] and opened_log.is_set():
        print("held", flush=True)
        released.wait()
    elif node == NODES[b"once.log"]:
        opened_log.set()
    reply(device, unique, struct.pack("<Q2I", node, 0, 0))


def answer(device, request):
    _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
    body = request[40:]
    if opcode == INIT:
        _, _, readahead, _ = struct.unpack_from("<4I", body)
        # No flags: the plainest of all file systems.
        version = struct.pack("<4I2H2I2HI7I", 7, 31, readahead, 0, 12, 9, 4096, 1, 0, 0, 0, *[0] * 7)
        reply(device, unique, version)
    elif opcode == LOOKUP:
        found = NODES.get(body.rstrip(b"\0"))
        if found is None:
            reply(device, unique, error=ENOENT)
        else:
            reply(device, unique, struct.pack("<4Q2I", found, 0, 60, 60, 0, 0) + attributes(found))
    elif opcode == GETATTR:
        reply(device, unique, struct.pack("<Q2I", 60, 0, 0) + attributes(node))
    elif opcode in (OPEN, OPENDIR):
        threading.Thread(target=open_node, args=(device, unique, node), daemon=True).start()
    elif opcode == WRITE:
        (size,) = struct.unpack_from("<I", body, 16)
        reply(device, unique, struct.pack("<2I", size, 0))
    elif opcode == READ:
        _, offset, size = struct.unpack_from("<2QI", body)
        threading.Thread(target=read, args=(device, unique, node, offset, size), daemon=True).start()
    elif opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
        reply(device, unique)
    elif opcode not in (FORGET, BATCH_FORGET, INTERRUPT):
        reply(device, unique, error=ENOSYS)


def serve(device):
    while True:
        try:
            answer(device, os.read(device, 1 << 20))
        except OSError:
            # Unmounted, or the one who asked has gone.
            if released.is_set():
                return


def main():
    directory = sys.argv[1].encode()
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"slow_disk", directory, b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount")
    threading.Thread(target=serve, args=(device,), daemon=True).start()
    print("mounted", flush=True)
    try:
        for _ in sys.stdin:
            released.set()
    finally:
        released.set()
        libc.umount2(directory, MNT_DETACH)


main()
