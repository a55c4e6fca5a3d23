"""gevent or eventlet, by the variable ``GREEN``, which patch the standard library ``WHEN`` the variable says.

``/sleep?S`` sleeps, ``/receive`` waits for a socket, ``/spin`` keeps the CPU, ``/spawn`` waits for a greenlet;
all are notes in the probe when something ends them. ``/wait/NAME`` waits for the test, ``/process`` starts a process.
"""

import os
import subprocess
import time

import probe

real_sleep = time.sleep


def patch():
    if os.environ["GREEN"] == "gevent":
        from gevent import monkey

        monkey.patch_all()
    elif os.environ["GREEN"] == "gevent-threads":
        from gevent import monkey

        monkey.patch_all(subprocess=False, os=False, signal=False)
    else:
        import eventlet

        eventlet.monkey_patch()
    assert time.sleep is not real_sleep, "it patches"


when = os.environ["WHEN"]
if when == "import":
    patch()
elif when == "fork":
    import pyserve

    pyserve.after_fork(patch)


def application(environ, start_response):
    global when
    if when == "request":
        when = "done"
        patch()
    path = environ["PATH_INFO"]
    try:
        if path == "/sleep":
            time.sleep(float(environ["QUERY_STRING"]))
        elif path == "/receive":
            import socket

            ours, theirs = socket.socketpair()
            ours.recv(1)
        elif path == "/spin":
            end = time.monotonic() + 60
            while time.monotonic() < end:
                pass
        elif path == "/spawn":
            spawn()
        elif path == "/process":
            text = subprocess.check_output(["echo", "-n", "a process"], text=True)
            return probe.plain(start_response, text)
        elif path.startswith("/wait/"):
            probe.wait(path)
    except BaseException as error:
        probe.note("%s ended by %s" % (path, type(error).__name__))
        raise
    return probe.plain(start_response, str(os.getpid()))


def spawn():
    if os.environ["GREEN"] == "gevent":
        import gevent

        gevent.spawn(time.sleep, 60).join()
    else:
        import eventlet

        eventlet.spawn(time.sleep, 60).wait()
