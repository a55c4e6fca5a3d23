"""Evaluates a configuration file of gunicorn, and writes what it sets to standard output as JSON.

pyserve runs this in the interpreter of the application: `python -c SOURCE FILE NAME...`, where the
names are those of gunicorn's settings. What the file prints goes to standard error.
"""

import ast
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import traceback

MOST_STATEMENTS = 5000
LONGEST = 65536


def main():
    location, known = sys.argv[1], sys.argv[2:]
    # A descriptor that no program started by the file inherits.
    output = os.dup(1)
    os.dup2(2, 1)
    sys.argv = ["gunicorn"]
    sys.dont_write_bytecode = True
    # gunicorn: app/base.py, `Application.chdir`.
    sys.path[:1] = []
    sys.path.insert(0, os.getcwd())
    result = evaluated(location, known)
    data = json.dumps(result).encode("ascii", "backslashreplace")
    while data:
        data = data[os.write(output, data) :]
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that the file has started do not keep the process.
    os._exit(0)


def evaluated(location, known):
    result = {"file": "", "settings": {}, "statements": [], "used": [], "error": None}
    try:
        if location.startswith("python:"):
            spec = importlib.util.find_spec(location[len("python:") :])
            if spec is None or not spec.origin:
                raise ImportError("there is no module %s" % location[len("python:") :])
            filename = spec.origin
        else:
            filename = location[len("file:") :] if location.startswith("file:") else location
            if os.path.splitext(filename)[1] in (".py", ".pyc"):
                spec = importlib.util.spec_from_file_location("__config__", filename)
            else:
                loader = importlib.machinery.SourceFileLoader("__config__", filename)
                spec = importlib.util.spec_from_file_location("__config__", filename, loader=loader)
        result["file"] = filename
        with open(filename, "rb") as file:
            source = file.read()
    except BaseException as error:
        result["error"] = {"line": 0, "text": message(error)}
        return result
    lines = Lines(filename)
    namespace = {}
    try:
        tree = None if filename.endswith(".pyc") else ast.parse(source, filename)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        namespace = vars(module)
        sys.settrace(lines.trace)
        try:
            spec.loader.exec_module(module)
        finally:
            sys.settrace(None)
    except BaseException as error:
        result["error"] = {"line": line_of(error, filename), "text": message(error)}
        try:
            tree = ast.parse(source, filename)
        except Exception:
            tree = None
    for name in known:
        if name in namespace:
            result["settings"][name] = value(namespace[name])
    if tree is not None:
        result["statements"] = [
            statement for statement in statements(tree.body, lines, namespace, set(known))
        ][:MOST_STATEMENTS]
        loads = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        result["used"] = sorted(loads)
    return result


class Lines:
    """The lines of the file that run, in order."""

    def __init__(self, filename):
        self.name = os.path.abspath(filename)
        self.codes = {}
        self.last = {}
        self.count = 0

    def trace(self, frame, event, arg):
        code = frame.f_code
        if code.co_name == "<module>" and self.is_own(code.co_filename):
            return self.line
        return None

    def is_own(self, name):
        """True for the file in any spelling: the loader makes `./a.py` absolute without removing the dot."""
        if name not in self.codes:
            self.codes[name] = os.path.abspath(name) == self.name
        return self.codes[name]

    def line(self, frame, event, arg):
        if event == "line":
            self.count += 1
            self.last[frame.f_lineno] = self.count
        return self.line

    def ran(self, first, last):
        return max((self.last.get(line, 0) for line in range(first, last + 1)), default=0)


def statements(body, lines, namespace, known):
    for node in body:
        first, last = node.lineno, node.end_lineno
        decorators = getattr(node, "decorator_list", [])
        if decorators:
            first = min(first, decorators[0].lineno)
        inner = []
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                inner.append(getattr(node, field, []) or [])
            for handler in getattr(node, "handlers", []):
                inner.append(handler.body)
            for case in getattr(node, "cases", []):
                inner.append(case.body)
        inner = [part for part in inner if part]
        head = min((part[0].lineno for part in inner), default=last + 1) - 1
        head = max(first, min(head, last))
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text:
            yield {
                "line": first,
                "end": head,
                "kind": type(node).__name__,
                "names": sorted(bound(node, inner, namespace, known)),
                "ran": lines.ran(first, head),
            }
        for part in inner:
            yield from statements(part, lines, namespace, known)


def bound(node, inner, namespace, known):
    names = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if alias.name == "*":
                module = sys.modules.get(node.module or "")
                names.update(name for name in known if hasattr(module, name))
            else:
                names.add(alias.asname or alias.name)
        return names
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    skipped = {id(child) for part in inner for child in part}
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, ast.Name) and isinstance(current.ctx, ast.Store):
            names.add(current.id)
        if isinstance(current, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp)):
            continue
        if isinstance(current, ast.GeneratorExp):
            continue
        for child in ast.iter_child_nodes(current):
            if id(child) not in skipped and not isinstance(child, ast.ExceptHandler):
                stack.append(child)
    return names


def value(thing, depth=0):
    if thing is None:
        return ["none"]
    if isinstance(thing, bool):
        return ["bool", bool(thing)]
    if isinstance(thing, int):
        return ["int", str(int(thing))[:40]]
    if isinstance(thing, float):
        return ["float", repr(float(thing))]
    if isinstance(thing, str):
        return ["text", clean(str.__str__(thing))]
    if isinstance(thing, bytes):
        return ["text", clean(thing.decode("utf-8", "surrogateescape"))]
    if isinstance(thing, (list, tuple, set, frozenset)) and depth < 3:
        return ["list", [value(item, depth + 1) for item in list(thing)[:1000]]]
    if isinstance(thing, dict) and depth < 3:
        pairs = list(thing.items())[:1000]
        return ["map", [[clean(str(key)), value(item, depth + 1)] for key, item in pairs]]
    if inspect.isclass(thing):
        return ["class", clean("%s.%s" % (thing.__module__, thing.__qualname__))]
    if callable(thing):
        name = getattr(thing, "__qualname__", type(thing).__name__)
        return ["callable", clean(str(name)), arity(thing)]
    return ["other", clean(type(thing).__name__)]


def clean(text):
    # pyserve has its own characters for bytes that are no UTF-8; other lone surrogates mean nothing.
    def replaced(char):
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            return chr(0x10FE00 + code - 0xDC00)
        return "?" if 0xD800 <= code <= 0xDFFF else char

    return "".join(map(replaced, text[:LONGEST]))


def arity(function):
    """The number of positional arguments, -1 if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return -1
    if any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters):
        return -1
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return sum(parameter.kind in positional for parameter in parameters)


def message(error):
    name = missing_variable(error)
    if name is not None:
        return clean("the variable %s is not set now" % name)
    try:
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
    except BaseException:
        text = type(error).__name__
    return clean(text.splitlines()[-1] if text else type(error).__name__)


def missing_variable(error):
    """The variable of `os.environ[NAME]` that is not set, if that is the error."""
    if not isinstance(error, KeyError) or not error.args or not isinstance(error.args[0], str):
        return None
    last = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        last = frame
    is_environ = last is not None and last.f_locals.get("self") is os.environ
    return error.args[0] if is_environ and error.args[0] not in os.environ else None


def line_of(error, filename):
    lines = Lines(filename)
    if isinstance(error, SyntaxError) and error.filename and lines.is_own(error.filename):
        return error.lineno or 0
    line = 0
    for frame, number in traceback.walk_tb(error.__traceback__):
        if lines.is_own(frame.f_code.co_filename):
            line = number
    return line


main()
