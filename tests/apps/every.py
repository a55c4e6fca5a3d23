"""All behaviours behind one server: the first segment of the path names the module."""

import importlib


def application(environ, start_response):
    name = environ["PATH_INFO"].lstrip("/").split("/")[0]
    if not name.isidentifier():
        name = "hello"
    return importlib.import_module(name).application(environ, start_response)
