"""Finds what the exit of the interpreter would call that removes files: in each forked worker.

These are exit functions, finalizers, callbacks of weak references, temporary files and
directories, and the `finally` blocks of suspended generators. Executed behind `removers.py`, in one
namespace with `left_behind.py`, which finds the objects.
"""

import os
import sys
import weakref


def _generator():
    yield


async def _coroutine():
    yield


# Suspended functions, with the prefix of their attributes.
_SUSPENDED = {type(_generator()): "gi_", type(_coroutine()): "ag_"}
# Instances of a class that are examined for the functions that their attributes hold.
_MOST_INSTANCES = 20


def _look_at_finalizers(instances, found):
    by_class = {}
    for instance in instances:
        by_class.setdefault(type(instance), []).append(instance)
    for of_class in by_class.values():
        _try(_look_at_finalizer, of_class, found)


def _look_at_finalizer(of_class, found):
    cls = type(of_class[0])
    base = next(base for base in _MRO(cls) if "__del__" in base.__dict__)
    finalizer = base.__dict__["__del__"]
    removes = _removes(finalizer, base) or any(
        _ends_in_removal(finalizer, instance) for instance in of_class[:_MOST_INSTANCES]
    )
    if removes:
        name = "%s.%s" % (cls.__module__, cls.__name__)
        found.add("%s object that removes files when it ends" % name)


# Bypasses attributes of subclasses.
_CALLBACK = weakref.ReferenceType.__dict__["__callback__"].__get__


def _look_at_callbacks(references, found):
    seen = set()
    for reference in references:
        callback = _CALLBACK(reference)
        code = getattr(callback, "__code__", None)
        if callback is None or id(code or callback) in seen:
            continue
        seen.add(id(code or callback))
        if _ends_in_removal(callback, None):
            found.add(_removed("weak reference with the callback %s" % _call(callback, ())))


def _look_at_suspended(suspended, found):
    # Its `finally` block runs when the interpreter exits.
    prefix = _SUSPENDED[type(suspended)]
    code, frame = getattr(suspended, prefix + "code"), getattr(suspended, prefix + "frame")
    if frame is None:
        return
    # Up to Python 3.11 the last instruction shows whether it has begun.
    has_begun = getattr(suspended, prefix + "suspended", frame.f_lasti > 0)
    if has_begun and _removes_in(code, frame):
        name = getattr(suspended, "__qualname__", code.co_name)
        module = frame.f_globals.get("__name__")
        found.add(_removed("suspended generator %s.%s" % (module, name)))


def _look_at_directory(directory, found):
    if directory._finalizer.alive and getattr(directory, "_delete", True):
        found.add(_removed("temporary directory %r" % directory.name))


def _look_at_closer(closer, found):
    is_over = getattr(closer, "cleanup_called", None)
    if is_over is None:
        is_over = closer.close_called
    if getattr(closer, "delete", True) and not is_over:
        fds = [fd for fd in [_fileno(closer.file)] if fd is not None]
        found.add(_removed("temporary file %r" % closer.name), fds)


def _removed(what):
    return what + ", which the first worker that exits removes for all"


def _look_at_exits(_, found):
    for func, args in _exits:
        stack = getattr(func, "__self__", None)
        callbacks = getattr(stack, "_exit_callbacks", ())
        inner = [getattr(callback, "__wrapped__", callback) for _, callback in callbacks]
        if any(map(_removes_at_exit, [func, *inner, *args])):
            found.add(_removed("exit function %s" % _call(func, args)))
    threading = sys.modules.get("threading")
    # Functions of `concurrent.futures` are among them.
    for func in list(getattr(threading, "_threading_atexits", ())):
        # A partial, or since Python 3.13 a closure.
        closure = dict(zip(func.__code__.co_freevars, func.__closure__)) if _is_closure(func) else {}
        cells = [cell.cell_contents for cell in closure.values()]
        inner = closure["func"].cell_contents if "func" in closure else getattr(func, "func", func)
        args = next((cell for cell in cells if type(cell) is tuple), getattr(func, "args", ()))
        if any(map(_removes_at_exit, [func, inner, *args])):
            found.add(_removed("exit function %s" % _call(inner, args)))
    registry = getattr(weakref.finalize, "_registry", {})
    for info in list(registry.values()):
        module = getattr(info.func, "__module__", None)
        if info.atexit and module != "tempfile" and any(
            map(_removes_at_exit, [info.func, *info.args])
        ):
            found.add(_removed("finalizer %s" % _call(info.func, info.args)))


def _is_closure(func):
    return type(func) is _FUNCTION and bool(func.__closure__)


def _call(func, args):
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None) or type(func).__name__
    prefix = "%s." % module if isinstance(module, str) and module != "builtins" else ""
    shown = [repr(arg) for arg in args if isinstance(arg, (str, bytes, os.PathLike))]
    return "%s%s(%s)" % (prefix, name, ", ".join(shown)[:120])
