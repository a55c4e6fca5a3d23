"""Who this process is, and what it and its children can do; a POST tells its length."""

import json
import os
import subprocess
import sys
import tempfile


def attempt(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"


def application(environ, start_response):
    length = len(environ["wsgi.input"].read())
    with open("/proc/self/status") as status:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in status)
    listing = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    about = {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "setuid": attempt(os.setuid, 0),
        "setgroups": attempt(os.setgroups, [0]),
        "no_new_privs": lines.get("NoNewPrivs"),
        "capabilities": lines["CapEff"].strip("0"),
        "home": os.environ.get("HOME"),
        "user": os.environ.get("USER"),
        "temporary": attempt(tempfile.TemporaryFile),
        "inherited": subprocess.check_output(
            [sys.executable, "-c", listing], close_fds=False, text=True
        ).strip(),
        "length": length,
    }
    body = json.dumps(about).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
