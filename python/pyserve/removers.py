"""Finds functions that remove or replace files, or start programs that may, without calling them.

Executed behind `remembered.py`, in one namespace with `left_behind.py`, which asks about the
functions that each worker would call at its exit.

A function is judged by the objects that its code names: names are looked up in the module, the
closure, the defaults and the object of a method, and functions found so are examined in turn.
Functions of the standard library are not: they are in the table below or harmless.
"""

import os
import sys

# Names of functions and methods that remove files, of whatever object.
REMOVERS = frozenset(("rmtree", "unlink", "rmdir", "removedirs"))
# Functions by module, where the name alone says less.
_HARMFUL = {
    "os": "remove unlink rmdir removedirs rename replace renames truncate ftruncate system popen "
    "posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe "
    "execl execle execlp execlpe execv execve execvp execvpe",
    "shutil": "rmtree move",
    "subprocess": "call run Popen check_call check_output getoutput getstatusoutput",
}
_PATH_METHODS = ("rename", "replace", "rmdir", "unlink")
# Calls that are followed, one in the other.
_DEPTH = 4
# The same for finalizers and callbacks.
_SHORT = 1


class _Missing:
    """A module that is not imported yet."""

    def __init__(self, name):
        self.name = name


class _Unknown:
    """An object that only a call would produce."""


def _harmful():
    """The objects themselves, so that an alias is no other name."""
    found = []
    for module, names in _HARMFUL.items():
        holder = getattr(sys.modules.get(module), "__dict__", {})
        found += [holder[name] for name in names.split() if name in holder]
    pathlib = sys.modules.get("pathlib")
    for name in _PATH_METHODS:
        method = getattr(getattr(pathlib, "Path", None), name, None)
        found += [method] if method is not None else []
    return found


def _is_standard(package):
    names = getattr(sys, "stdlib_module_names", None)
    if names is not None:
        return package in names
    path = getattr(sys.modules.get(package), "__file__", None) or ""
    is_third = "site-packages" in path or "dist-packages" in path
    return not is_third and (not path or path.startswith(os.path.dirname(os.__file__)))


def _package(func):
    module = getattr(func, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def _removes_at_exit(func):
    """True if calling this removes files, directly or by functions that it calls."""
    try:
        if type(func) not in (_METHOD, *_FOLLOWED, type):
            call = _attribute(type(func), "__call__")
            if type(call) is _FUNCTION and _follows(call, func):
                return True
        return _follows(func, None)
    except Exception:
        return _removes(func)


def _ends_in_removal(func, owner):
    """The same for a finalizer or a callback: many objects have one, so fewer calls are followed."""
    try:
        return _follows(func, owner, _SHORT)
    except Exception:
        return False


def _removes_in(code, frame):
    """True if the rest of a suspended function may remove files."""
    if "getpid" in _names(code):
        return False
    harmful = _harmful()
    if _names(code) & REMOVERS or _names_by_text(code):
        return True
    for value, owner in _loads(code, frame.f_globals, {}, dict(frame.f_locals)):
        if any(value is other for other in harmful):
            return True
        is_method = getattr(value, "__name__", None) in REMOVERS and type(value) in _FOLLOWED
        if is_method or (type(value) is _FUNCTION and _ends_in_removal(value, owner)):
            return True
    return False


def _follows(func, owner, deepest=_DEPTH):
    harmful = _harmful()
    # Each with its object, if it is a method, and its depth.
    waiting = [(func, owner, 0)]
    seen = set()
    while waiting:
        func, owner, depth = waiting.pop()
        for func, owner in _parts(func, owner):
            if any(func is other for other in harmful) or _calls_by_name(func):
                return True
            # An `ExitStack`, by its method `close`.
            stack = _Unknown if owner is None else _attribute(owner, "_exit_callbacks")
            if type(stack) in _CONTAINERS:
                callbacks = [getattr(one, "__wrapped__", one) for _, one in stack]
                waiting += [(one, None, depth + 1) for one in callbacks]
            if type(func) in _CONTAINERS:
                waiting += [(item, None, depth + 1) for item in _items(func)]
                continue
            code = getattr(func, "__code__", None)
            if (id(code), id(owner)) in seen:
                continue
            seen.add((id(code), id(owner)))
            if type(func) in _FOLLOWED and _removes(func, None if owner is None else type(owner)):
                return True
            if type(func) is not _FUNCTION or depth > deepest or _is_standard(_package(func)):
                continue
            # A function that checks its process id is safe.
            if "getpid" in _names(code):
                continue
            if _names_by_text(code):
                return True
            named = list(_named(func, code, owner))
            names_path = any(_is_of_pathlib(other) for other, _ in named)
            if names_path and _names(code) & set(_PATH_METHODS):
                return True
            waiting += [(other, of, depth + 1) for other, of in named]
    return False


def _names_by_text(code):
    """True if `getattr` is called with the name of a function that removes files."""
    if "getattr" not in _names(code):
        return False
    texts = {constant for constant in _constants(code) if isinstance(constant, str)}
    return bool(texts & (REMOVERS | {"remove"}))


def _constants(code):
    for constant in code.co_consts:
        if type(constant) is type(code):
            yield from _constants(constant)
        else:
            yield constant


def _calls_by_name(func):
    """True for `operator.methodcaller("unlink")` and the like."""
    if type(func).__module__ != "operator" or type(func).__name__ != "methodcaller":
        return False
    return func.__reduce__()[1][0] in REMOVERS


# Lists of functions, as a function for the exit may call them one by one.
_CONTAINERS = (list, tuple, set, dict, getattr(sys.modules.get("_collections"), "deque", list))
_MOST_ITEMS = 100


def _items(container):
    """The functions in a container, alone or first in a tuple with their arguments."""
    rows = container.values() if type(container) is dict else container
    found = []
    for row in list(rows)[:_MOST_ITEMS]:
        found += filter(_is_callable, row if type(row) is tuple else (row,))
    return found


def _is_callable(value):
    is_partial = type(value).__module__ == "functools" and type(value).__name__ == "partial"
    return is_partial or type(value) is _METHOD or type(value) in _FOLLOWED


_FUNCTION = type(_harmful)
_METHOD = type(_Missing("").__init__)
_FOLLOWED = (_FUNCTION, type(len))


def _parts(func, owner):
    """What a call of this calls, without partials and bound methods, with the object of each."""
    for _ in range(8):
        if type(func) is _METHOD:
            func, owner = func.__func__, func.__self__
        elif type(func).__module__ == "functools" and type(func).__name__ == "partial":
            for arg in func.args:
                if type(arg) in _FOLLOWED or type(arg) is _METHOD:
                    yield getattr(arg, "__func__", arg), getattr(arg, "__self__", None)
            func, owner = func.func, None
        else:
            break
    yield func, owner


def _is_of_pathlib(value):
    cls = value if isinstance(value, type) else type(value)
    return cls.__module__.partition(".")[0] == "pathlib" or (
        type(value) is type(sys) and value.__name__ == "pathlib"
    )


def _named(func, code, owner):
    """The objects that a function's code names, each with the object of which it is a method."""
    values = dict(zip(code.co_freevars, func.__closure__ or ()))
    closure = {}
    for name, cell in values.items():
        try:
            closure[name] = cell.cell_contents
        except ValueError:
            pass
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    local = dict(zip(parameters[: code.co_argcount][::-1], (func.__defaults__ or ())[::-1]))
    local.update(func.__kwdefaults__ or {})
    if owner is not None and parameters:
        local[parameters[0]] = owner
    yield from _loads(code, func.__globals__, closure, local)


def _loads(code, module, closure, local):
    # Of the standard library alone, and only where the application has registered a function.
    import dis

    local = dict(local)
    builtins = module.get("__builtins__")
    builtins = getattr(builtins, "__dict__", builtins) or {}
    # The value on top of the stack, as far as it is known, and the module that is imported from.
    value, source, owner = _Unknown, _Unknown, None
    for instruction in dis.get_instructions(code):
        name, what = instruction.opname, instruction.argval
        if name in ("PUSH_NULL", "NOP", "CACHE", "EXTENDED_ARG"):
            continue
        before, (value, owner) = value, (_Unknown, None)
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = module.get(what, builtins.get(what, _Unknown))
        elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            value = closure.get(what, local.get(what, _Unknown))
        elif name.startswith("LOAD_FAST"):
            value = local.get(what[-1] if isinstance(what, tuple) else what, _Unknown)
        elif name == "IMPORT_NAME":
            source = sys.modules.get(what, _Missing(what))
            value = sys.modules.get(what.partition(".")[0], source)
        elif name == "IMPORT_FROM":
            value, owner = _attribute(source, what), None
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            value, owner = _attribute(before, what), before
        elif name in ("STORE_FAST", "STORE_DEREF") and before is not _Unknown:
            local[what] = before
        if value is not _Unknown:
            yield value, None if type(owner) is type(sys) else owner
    for constant in code.co_consts:
        if type(constant) is type(code):
            yield from _loads(constant, module, dict(local, **closure), {})


def _attribute(value, name):
    """An attribute as it is stored, without calling a descriptor or `__getattr__`."""
    if value is _Unknown:
        return _Unknown
    if type(value) is _Missing:
        is_harmful = name in _HARMFUL.get(value.name, "").split()
        # Stands for the function that the import would find.
        return os.unlink if is_harmful else _Unknown
    classes = type.__dict__["__mro__"].__get__(value if isinstance(value, type) else type(value))
    try:
        stored = [object.__getattribute__(value, "__dict__")]
    except (AttributeError, TypeError):
        stored = []
    for attributes in stored + [cls.__dict__ for cls in classes]:
        if name in attributes:
            found = attributes[name]
            return found.__func__ if type(found) in (staticmethod, classmethod) else found
    return _Unknown


def _removes(func, owner=None):
    """True if calling this removes files, judged by its name or the names in its code."""
    func = getattr(func, "func", func)
    holder = owner or type(getattr(func, "__self__", None))
    func = getattr(func, "__func__", func)
    module = getattr(func, "__module__", None)
    package = module.partition(".")[0] if isinstance(module, str) else ""
    name = getattr(func, "__name__", "")
    if name in REMOVERS or (name == "remove" and package in ("posix", "os")):
        return True
    code = getattr(func, "__code__", None)
    if code is None or _is_standard(package):
        return False
    names = _names(code)
    # Methods of the same class that it calls count too, one level deep.
    for name in list(names):
        method = getattr(holder, "__dict__", {}).get(name)
        inner = getattr(method, "__code__", None)
        if inner is not None:
            names |= _names(inner)
    # A function that checks its process id is safe.
    if "getpid" in names:
        return False
    return bool(names & REMOVERS) or {"os", "remove"} <= names


def _names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is type(code):
            names |= _names(constant)
    return names
