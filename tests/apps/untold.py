"""A template that is killed between forking a worker and telling of it."""

import os
import signal

import probe

FLAG = os.path.join(os.environ.get("PROBE", "/nonexistent"), "die")


def die():
    """Runs in the template, right after each fork."""
    if os.path.exists(FLAG):
        os.unlink(FLAG)
        os.kill(os.getpid(), signal.SIGKILL)


os.register_at_fork(after_in_parent=die)


def application(environ, start_response):
    return probe.plain(start_response, str(os.getpid()))
