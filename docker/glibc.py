"""Shows the newest version of glibc that an ELF file needs, and that the WSGI host inside it needs.

    python3 docker/glibc.py FILE [NEWEST]     2.17: ends with 1 if either needs a newer one
"""

import struct
import sys

#: The beginning of an ELF file of 64 bits with the least significant byte first.
MAGIC = b"\x7fELF\x02\x01\x01"
SHARED_OBJECT = 3
NEEDED_VERSIONS = 0x6FFFFFFE


def main():
    file, *newest = sys.argv[1:]
    with open(file, "rb") as opened:
        data = opened.read()
    parts = [(file, data), ("the host inside", host(data))]
    limit = parsed(newest[0]) if newest else None
    code = 0
    for name, part in parts:
        if part is None:
            sys.exit("%s: no host is inside" % file)
        version = needed(part)
        print("%s: glibc %d.%d" % (name, *version))
        if limit and version > limit:
            code = 1
    sys.exit(code)


def host(data):
    """The shared object with the name of our module that is embedded in the file."""
    at = data.find(MAGIC, 1)
    while at >= 0:
        kind = struct.unpack_from("<H", data, at + 16)[0]
        part = data[at : at + length(data, at)] if kind == SHARED_OBJECT else b""
        if b"PyInit__pyserve_host" in part:
            return part
        at = data.find(MAGIC, at + 1)
    return None


def length(data, at):
    """The length of an ELF file: its table of sections is at its end."""
    table, _, _, _, _, size, count = struct.unpack_from("<QIHHHHH", data, at + 40)
    return table + size * count


def needed(elf):
    """The newest GLIBC_x.y among the versions that the file needs (section .gnu.version_r)."""
    table, _, _, _, _, size, count = struct.unpack_from("<QIHHHHH", elf, 40)
    versions = [(0, 0)]
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + size * index) for index in range(count)]
    for _, kind, _, _, offset, _, link, _, _, _ in sections:
        if kind != NEEDED_VERSIONS:
            continue
        strings = sections[link][4]
        file_at = offset
        while True:
            _, entries, _, first, following = struct.unpack_from("<HHIII", elf, file_at)
            at = file_at + first
            for _ in range(entries):
                _, _, _, name, step = struct.unpack_from("<IHHII", elf, at)
                end = elf.index(b"\0", strings + name)
                text = elf[strings + name : end].decode()
                if text.startswith("GLIBC_") and text[6:7].isdigit():
                    versions.append(parsed(text[6:]))
                at += step
            if not following:
                break
            file_at += following
    return max(versions)


def parsed(version):
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


if __name__ == "__main__":
    main()
