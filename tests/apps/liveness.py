"""Gets stuck where the test wants it to: in a hook, a thread, an exit.

The files ``hang`` and ``die`` in the directory ``STUCK`` say whether the hook before a fork
hangs or ends the process; ``hold`` lets a thread take the interpreter.
"""

import ctypes
import os
import threading
import time

import probe

DIRECTORY = os.environ["STUCK"]


def before_fork():
    while os.path.exists(os.path.join(DIRECTORY, "hang")):
        time.sleep(0.05)
    if os.path.exists(os.path.join(DIRECTORY, "die")):
        os._exit(9)


os.register_at_fork(before=before_fork)


def hold_the_interpreter():
    """The test begins it when it has the whole response."""
    while not os.path.exists(os.path.join(DIRECTORY, "hold")):
        time.sleep(0.01)
    # Functions of a PyDLL run without giving the interpreter away.
    ctypes.PyDLL(None).sleep(1000)


def stay_for_ever():
    while True:
        time.sleep(1000)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hold-interpreter":
        threading.Thread(target=hold_the_interpreter, daemon=True).start()
    elif path == "/stay":
        threading.Thread(target=stay_for_ever).start()
    elif path == "/held":
        probe.wait(path)
    return probe.plain(start_response, str(os.getpid()))
