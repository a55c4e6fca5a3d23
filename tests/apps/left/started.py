"""Starts a process that takes no notice of SIGTERM, one with a session of its own, and a thread
that takes an abstract address; makes a directory. Raises then, where RAISES is set."""

import os
import socket
import subprocess
import sys
import tempfile
import threading

import probe

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(1000)"
stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
stubborn.stdout.readline()
apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
scratch = tempfile.TemporaryDirectory()
listener = socket.socket(socket.AF_UNIX)
listener.bind("\0" + os.environ["ADDRESS"])
listener.listen()
threading.Thread(target=listener.accept, daemon=True).start()
probe.note("started %d %d %s" % (stubborn.pid, apart.pid, scratch.name))
if os.environ.get("RAISES"):
    raise RuntimeError("after all that")


def application(environ, start_response):
    return probe.plain(start_response, "%d %d" % (stubborn.pid, apart.pid))
