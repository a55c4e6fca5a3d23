"""Shows environ: the exact type and the value of each entry, as JSON."""

import json
import os
import sys
import threading

import probe


def application(environ, start_response):
    entries = {
        key: [type(value).__name__, value if isinstance(value, (str, bool)) else repr(value)]
        for key, value in environ.items()
        if not key.startswith("test.")
    }
    about = {
        "type": type(environ).__module__ + "." + type(environ).__name__,
        "seen_before": "test.mark" in environ,
        "entries": entries,
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "main_thread": threading.current_thread() is threading.main_thread(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "argv": sys.argv,
        "path": sys.path,
        "version": "%d.%d.%d" % sys.version_info[:3],
    }
    environ["test.mark"] = "left by an earlier request"
    return probe.plain(start_response, json.dumps(about))
