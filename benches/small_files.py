#!/usr/bin/env python3
"""Small files: pyserve beside nginx, with and without open_file_cache, in one interleaved run.

    cargo build --release && python3 benches/small_files.py

What counts is CPU time for a request. Figures of different runs or machines do not compare: the
ratios of one run do.
"""

import gzip
import os
import sys
import tempfile
from pathlib import Path

import measure
import static_files
from static_files import Work

MANY = 1000
KIB = 1024
NGINX = """\
gzip_static on;
types { text/plain txt; text/css css; }
"""
CACHE = "open_file_cache max=10000 inactive=60s; open_file_cache_valid 1s;\n"
SERVERS = {
    "nginx": static_files.nginx(NGINX + CACHE, "if_modified_since before;", "auto"),
    "nginx without open_file_cache": static_files.nginx(NGINX, "if_modified_since before;", "auto"),
    "pyserve": static_files.pyserve,
}
COLUMNS = [
    ("CPU µs/request", "cpu_us", ".1f"),
    ("requests/s", "requests_per_s", ",.0f"),
    ("p99 ms", "p99_ms", ".2f"),
]

DATE = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
ZIPPED = gzip.compress(b"body { margin: 0 }\n" * 1000)
SCRIPT = f"""\
local number = 0
request = function()
    number = (number + 1) % {MANY}
    return wrk.format("GET", "/static/many/" .. number .. ".txt")
end
"""

WORK = {
    "1 KiB": Work("/static/1.txt", KIB),
    "16 KiB": Work("/static/16.txt", 16 * KIB),
    "304": Work("/static/1.txt", 0, 304, DATE),
    "range of 1 KiB out of 16 KiB": Work("/static/16.txt", KIB, 206, {"Range": "bytes=1000-2023"}),
    "gzip neighbour": Work("/static/style.css", len(ZIPPED), 200, {"Accept-Encoding": "gzip"}),
    f"{MANY} files of 4 KiB": Work("/static/many/7.txt", 4 * KIB, script=SCRIPT),
}


def main():
    parser = static_files.parser(__doc__, WORK)
    parser.add_argument("--connections", type=int, default=64, help="default %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="small_files-") as root:
        plant(Path(root) / "static")
        with static_files.running(SERVERS, Path(root), options, WORK["1 KiB"]) as up:
            print(
                f"# Small files\n\n{measure.machine()}; wrk on the same CPUs, {options.connections} connections; "
                f"medians of {options.rounds} rounds of {options.seconds} s."
            )
            failed = sum(
                static_files.compare(kind, WORK[kind], up, options.connections, COLUMNS, options)
                for kind in options.only or WORK
            )
    return 1 if failed else 0


def plant(static):
    """The files that are asked for."""
    (static / "many").mkdir(parents=True)
    (static / "1.txt").write_bytes(os.urandom(KIB))
    (static / "16.txt").write_bytes(os.urandom(16 * KIB))
    (static / "style.css").write_bytes(gzip.decompress(ZIPPED))
    (static / "style.css.gz").write_bytes(ZIPPED)
    for number in range(MANY):
        (static / f"many/{number}.txt").write_bytes(os.urandom(4 * KIB))


if __name__ == "__main__":
    sys.exit(main())
