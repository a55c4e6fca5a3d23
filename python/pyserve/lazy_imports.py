"""Loads the lazy imports (PEP 810, CPython 3.15) of an imported application before the template forks.

Without this every worker would load them for itself, at their first use in a request. Lazy imports of the
standard library stay lazy. A filter (`sys.set_lazy_imports_filter`) could turn laziness off for the time of the
import instead, but modules may rely on it, for example to import each other in a circle.
"""

import importlib
import sys
import types

_STANDARD = getattr(sys, "stdlib_module_names", frozenset())
# Modules may replace the attribute by one with side effects.
_namespace = types.ModuleType.__dict__["__dict__"].__get__


def load():
    """Loads all of them, those of modules that get loaded as well; the failures, as texts."""
    kind = getattr(types, "LazyImportType", None)
    if kind is None:
        return []
    tried = {}
    while _load_names(kind, tried) or _load_modules(tried):
        pass
    return [text for text in tried.values() if text]


def _load_names(kind, tried):
    """Replaces lazy objects in the names of modules; true if there was a new one."""
    found = [
        (module, name, value)
        for module in _modules()
        for name, value in list(_namespace(module).items())
        if type(value) is kind and (id(module), name) not in tried
    ]
    for module, name, value in found:
        tried[id(module), name] = None
        try:
            loaded = value.resolve()
        # An import that ends the process when it is used must not end the template.
        except (Exception, SystemExit) as error:
            tried[id(module), name] = _text("%s.%s" % (module.__name__, name), error)
        else:
            names = _namespace(module)
            if names.get(name) is value:
                names[name] = loaded
    return bool(found)


def _load_modules(tried):
    """Loads modules that no name stands for: `lazy import a.b` binds `a`, and `a.b` is loaded at its first use."""
    waiting = getattr(sys, "lazy_modules", ())
    found = [name for name in list(waiting) if _is_foreign(name) and name not in tried]
    for name in found:
        tried[name] = None
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # `lazy from a import b` is in the set as `a.b`, which need not be a module.
            if error.name != name or name.rpartition(".")[0] not in sys.modules:
                tried[name] = _text(name, error)
        except (Exception, SystemExit) as error:
            tried[name] = _text(name, error)
    return bool(found)


def _text(name, error):
    return "%s (%s: %s)" % (name, type(error).__name__, error)


def _is_foreign(name):
    return isinstance(name, str) and name.partition(".")[0] not in _STANDARD


def _modules():
    """The modules outside of the standard library."""
    return [
        module
        for name, module in list(sys.modules.items())
        if issubclass(type(module), types.ModuleType) and _is_foreign(name)
    ]
