"""Leaves a thread behind when it is imported; so it must not be forked."""

import os
import threading

import probe

probe.note("imported by %d" % os.getpid())
threading.Thread(target=threading.Event().wait, name="metrics-pusher", daemon=True).start()


def application(environ, start_response):
    return probe.plain(start_response, str(os.getpid()))
