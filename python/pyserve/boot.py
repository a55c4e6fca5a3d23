"""Starts pyserve's host inside the application's interpreter.

pyserve runs `python -c BOOT_LINE boot_fd host_fd control_fd`; the line (boot_line.txt)
executes this source, which rejects interpreters that cannot load the host, loads the host from
its memory file and runs it. It must parse on every Python since 2.7, so that an old one reports
a sentence instead of a syntax error. An interpreter that cannot serve exits with 99.
"""

import os
import sys

NEEDED = (3, 9)
REFUSED = 99


def main():
    boot_fd, host_fd, control_fd = [int(number) for number in sys.argv[1:4]]
    os.close(boot_fd)
    # `-c` puts the current directory on the path and its names into `__main__`.
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    for name in ("f", "os", "sys"):
        sys.modules["__main__"].__dict__.pop(name, None)

    reason = unsuitable()
    if reason is None:
        import fcntl
        import signal

        # An ignored signal or a handler of sitecustomize stays.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.fcntl(control_fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        host_fd = out_of_the_way(host_fd)
        if is_musl() and b"libc.so.6" in os.pread(host_fd, 1 << 26, 0):
            reason = "is built for musl; this pyserve hosts interpreters for glibc only"
    if reason is not None:
        refuse(reason)
    load(host_fd).run(control_fd, host_fd)


def unsuitable():
    """The reason why this interpreter cannot run the host, or None."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    implementation = getattr(getattr(sys, "implementation", None), "name", "cpython")
    if implementation != "cpython" or hasattr(sys, "pypy_version_info"):
        names = {"pypy": "PyPy", "graalpy": "GraalPy", "cpython": "PyPy"}
        return "is %s; pyserve needs CPython" % names.get(implementation, implementation)
    if sys.version_info < NEEDED:
        return (
            "is CPython %s; pyserve needs CPython 3.9 or newer:"
            " in an image, take a newer base, as FROM python:3.13-slim" % version
        )
    if "t" in getattr(sys, "abiflags", ""):
        return (
            "is a free-threaded build of CPython %s; pyserve needs the usual build" % version
        )
    return None


def is_musl():
    return getattr(sys.implementation, "_multiarch", "").endswith("musl")


def out_of_the_way(fd):
    """Moves the host's descriptor to a high number, close-on-exec for the application's children.

    It stays open for the life of the process: the dynamic linker knows libraries by name,
    and another file under the same /proc/self/fd name would be taken for the host.
    """
    import fcntl

    for lowest in (900, 200, 50):
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except (OSError, ValueError):
            continue
        os.close(fd)
        return moved
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return fd


def load(host_fd):
    path = "/proc/self/fd/%d" % host_fd
    if os.path.exists(path):
        return load_from(path, "cannot load pyserve's host")
    # No /proc: a temporary file, removed as soon as it is mapped.
    import tempfile

    path = None
    try:
        copy, path = tempfile.mkstemp(prefix="pyserve-host-", suffix=".so")
        with os.fdopen(copy, "wb") as file:
            file.write(os.pread(host_fd, 1 << 26, 0))
        return load_from(path, "has no /proc and cannot load pyserve's host from a file")
    except OSError as error:
        refuse("has no /proc, and the host cannot be written to a file: %s" % error)
    finally:
        if path is not None:
            os.unlink(path)


def load_from(path, trouble):
    from importlib.machinery import ExtensionFileLoader, ModuleSpec
    from importlib.util import module_from_spec

    loader = ExtensionFileLoader("_pyserve_host", path)
    try:
        module = module_from_spec(ModuleSpec("_pyserve_host", loader, origin=path))
        loader.exec_module(module)
    except ImportError as error:
        refuse("%s: %s" % (trouble, error))
    return module


def refuse(reason):
    try:
        sys.stderr.write(
            "pyserve: %s %s (choose another with --python or --venv)\n"
            % (sys.executable or "the Python interpreter", reason)
        )
        sys.stderr.flush()
    except Exception:
        # Python exits with 120 if it cannot flush the stream at its exit.
        sys.stderr = None
    sys.exit(REFUSED)


main()
