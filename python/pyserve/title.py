"""Lets the package ``setproctitle`` work in processes whose title pyserve has set.

It searches the arguments of Python in memory when one of its functions is first called, and stays
without effect if it does not find them. So the search is run at its import, while the original
arguments are restored.
"""

import os
import sys

NAME = "setproctitle"


def watch(lend, take_back):
    """``lend`` restores the arguments, ``take_back`` the title."""
    finder = _Finder(lend, take_back)
    if NAME in sys.modules:
        finder.set_up(sys.modules[NAME])
    else:
        sys.meta_path.insert(0, finder)


class _Finder:
    """Detects the import of `setproctitle`, and leaves it to other finders."""

    def __init__(self, lend, take_back):
        self.lend = lend
        self.take_back = take_back

    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        spec = self.found_by_others(name, path, target)
        loader = spec and spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):
            return spec

        def exec_module(module):
            del loader.exec_module
            # Up to setproctitle 1.1 the import searches the arguments.
            self.lend()
            try:
                execute(module)
            finally:
                self.take_back()
            self.set_up(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass
        return spec

    def found_by_others(self, name, path, target):
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find and finder is not self and find(name, path, target)
            if spec:
                return spec
        return None

    def set_up(self, module):
        call = getattr(module, "getproctitle", None)
        if call is None:
            # A module of the application with this name.
            return
        # Otherwise it clears the environment in /proc/PID/environ.
        spares = "SPT_NOENV" in os.environ
        if not spares:
            os.environ["SPT_NOENV"] = "1"
        self.lend()
        try:
            call()
        finally:
            self.take_back()
            if not spares:
                del os.environ["SPT_NOENV"]
