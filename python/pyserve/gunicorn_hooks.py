"""The hooks of a configuration file of gunicorn, run by pyserve.

In a worker the host calls `load` after the fork; `post_fork` runs before the application is imported,
unless the template has imported it, as in gunicorn. `accompany` runs the hooks of gunicorn's master in
a process beside the server. `server` and `worker` have what hooks use most; anything else
raises AttributeError with a sentence.
"""

import importlib
import importlib.machinery
import importlib.util
import logging
import os
import signal
import sys


class Missing:
    """The base of the objects that hooks get."""

    def __getattr__(self, name):
        kind = type(self).__name__.lower()
        raise AttributeError("%s.%s is not there under pyserve" % (kind, name))


class Settings(Missing):
    """`server.cfg`: the settings that the file assigns."""

    def __init__(self, names):
        vars(self).update(names)


class Server(Missing):
    """gunicorn's arbiter."""

    def __init__(self, cfg, log):
        self.cfg = cfg
        self.log = log
        self.pid = os.getppid()
        self.master_name = "Master"
        self.WORKERS = {}


class Worker(Missing):
    """gunicorn's worker."""

    def __init__(self, number, cfg, log):
        self.cfg = cfg
        self.log = log
        self.age = number + 1
        self.pid = os.getpid()
        self.ppid = os.getppid()
        self.booted = False
        self.aborted = False
        self.alive = True


def logger():
    """The logger of gunicorn; what it says goes to standard error."""
    log = logging.getLogger("gunicorn.error")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("[%(process)d] [%(levelname)s] %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    return log


def names_of(location):
    """The names of the file, as gunicorn evaluates it."""
    if location.startswith("python:"):
        return vars(importlib.import_module(location[len("python:") :]))
    if os.path.splitext(location)[1] in (".py", ".pyc"):
        spec = importlib.util.spec_from_file_location("__config__", location)
    else:
        loader = importlib.machinery.SourceFileLoader("__config__", location)
        spec = importlib.util.spec_from_file_location("__config__", location, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["__config__"] = module
    spec.loader.exec_module(module)
    return vars(module)


def function(hook):
    """A hook, which may be a function or its name in a module."""
    if isinstance(hook, str):
        module, name = hook.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)
    return hook


def load(location, number):
    """Runs `post_fork`, and registers the hooks that follow."""
    import pyserve

    names = names_of(location)
    log = logger()
    cfg = Settings({name: value for name, value in names.items() if not name.startswith("__")})
    server, worker = Server(cfg, log), Worker(number, cfg, log)
    if names.get("post_fork"):
        function(names["post_fork"])(server, worker)

    def booted():
        worker.booted = True
        if names.get("post_worker_init"):
            function(names["post_worker_init"])(worker)

    pyserve.after_fork(booted)
    if names.get("worker_exit"):
        exiting = function(names["worker_exit"])
        pyserve.before_exit(lambda: exiting(server, worker))


def accompany(location, directory):
    """Runs `when_ready` now, and `on_exit` when SIGTERM asks this process to end."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    sys.argv = ["gunicorn"]
    sys.path[:1] = [directory]
    names = names_of(location)
    log = logger()
    settings = {name: value for name, value in names.items() if not name.startswith("__")}
    server = Server(Settings(settings), log)

    def run(name):
        try:
            if names.get(name):
                function(names[name])(server)
        except Exception:
            log.exception("the hook %s raised", name)

    run("when_ready")
    signal.sigwait(ends)
    run("on_exit")
