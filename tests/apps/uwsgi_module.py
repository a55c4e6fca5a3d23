"""Evaluates the query, a Python expression, with the module `uwsgi` in scope; PATH_INFO is ignored."""

import os
import signal
import time
from urllib.parse import unquote

import uwsgi
from uwsgidecorators import postfork

forked = []


@postfork
def remember():
    forked.append((os.getpid(), uwsgi.worker_id()))


def hold(key):
    """Waits until the cache has the key."""
    while not uwsgi.cache_exists(key):
        time.sleep(0.005)
    return key


def application(environ, start_response):
    try:
        answer = repr(eval(unquote(environ["QUERY_STRING"])))
    except Exception as error:
        answer = "%s: %s" % (type(error).__name__, error)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Worker", str(uwsgi.worker_id()))])
    return [answer.encode()]
