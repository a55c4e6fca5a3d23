"""Answers through a helper program, on pipes, that is started when this is imported."""

import subprocess
import threading

import probe

helper = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
lock = threading.Lock()


def application(environ, start_response):
    with lock:
        helper.stdin.write(environ["QUERY_STRING"].encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            line += helper.stdout.read(1)
    return probe.plain(start_response, line.strip())
