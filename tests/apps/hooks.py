"""Registers every kind of hook around the fork and notes when each runs."""

import atexit
import gc
import os

import probe

try:
    import pyserve
except ImportError:
    pyserve = None

os.register_at_fork(
    before=lambda: probe.note("before fork"),
    after_in_parent=lambda: probe.note("parent after fork"),
    after_in_child=lambda: probe.note("child after fork"),
)
atexit.register(lambda: probe.note("atexit in %d" % os.getpid()))

if pyserve:

    @pyserve.after_fork
    def forked():
        probe.note("pyserve.after_fork in worker %r" % pyserve.worker_id())

    @pyserve.before_exit
    def leaving():
        probe.note("pyserve.before_exit in worker %r" % pyserve.worker_id())


def application(environ, start_response):
    about = "frozen %s, worker %r" % (
        gc.get_freeze_count() > 0,
        pyserve and pyserve.worker_id(),
    )
    return probe.plain(start_response, about)
