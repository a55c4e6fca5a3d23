"""Starts other processes from inside a request, in every usual way."""

import json
import multiprocessing
import os
import subprocess
import sys

import probe

# What multiprocessing would call this file if it ran it again as the main module of a child.
assert __name__ != "__mp_main__", "a child runs the application's file"

LIST_DESCRIPTORS = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"


def double(number):
    return 2 * number


def application(environ, start_response):
    about = {"subprocess": run("import sys; print(sys.prefix)")}
    for method in ("spawn", "fork", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            about[method] = pool.map(double, [1, 2, 3])
    about["inherited"] = run(LIST_DESCRIPTORS)
    about["prefix"] = sys.prefix
    about["main"] = sys.modules["__main__"].__file__
    return probe.plain(start_response, json.dumps(about))


def run(line):
    return subprocess.check_output(
        [sys.executable, "-c", line], close_fds=False, cwd=os.getcwd(), text=True
    ).strip()
