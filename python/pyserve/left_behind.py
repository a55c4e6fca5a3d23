"""Finds objects of the application that are not fork-safe, and those that are.

The template executes this file before it imports the application. The kernel lists threads,
descriptors and child processes, and the host reads those itself (`python/host/src/safety`).
This file adds what only the interpreter knows: the object behind a descriptor or a process,
files that a worker's exit would remove for all workers, and random generators.

Nothing here imports a module of others that the application has not imported: all lookups use
`sys.modules`, and objects are compared by their type, so that no proxy is called. Executed behind
`remembered.py`, `removers.py` and `at_exit.py`, in one namespace.
"""

import gc
import os
import sys
import weakref

# Clients that send datagrams and never read a reply, by package. Their sockets may be shared.
ONE_WAY = frozenset(("statsd", "datadog", "ddtrace", "aws_xray_sdk", "jaeger_client", "pystatsd"))
class _Found:
    def __init__(self):
        self.reasons = []
        #: Descriptors and processes that a reason names already.
        self.named_fds = set()
        self.named_pids = set()
        #: Those that may be shared, and descriptors that are only ever appended to.
        self.safe_fds = set()
        self.safe_pids = set()
        self.appended_fds = set()
        #: Descriptors of Python file objects.
        self.owned_fds = set()
        #: Ids of locks that belong to an object which is examined itself.
        self.owned_locks = set()

    def add(self, reason, fds=(), pids=()):
        fds = {fd for fd in map(_fileno, fds) if fd is not None}
        pids = {pid for pid in pids if pid}
        if fds and fds <= self.named_fds | self.safe_fds:
            return
        if pids and pids <= self.named_pids:
            return
        self.named_fds |= fds
        self.named_pids |= pids
        if reason not in self.reasons:
            self.reasons.append(reason)


def look():
    """The objects of this interpreter that are not fork-safe."""
    found = _Found()
    _look_at_trackers(found)
    # Objects that `gc.freeze` has hidden count too. The host freezes all before it forks.
    gc.unfreeze()
    instances = _instances()
    for kind, examine in _KINDS:
        for instance in instances.get(kind, ()):
            _try(examine, instance, found)
    _try(_look_at_finalizers, instances.get("finalized", ()), found)
    _try(_look_at_callbacks, instances.get("weakref.ReferenceType", ()), found)
    for instance in instances.get("one-way", ()):
        _try(_look_at_one_way, instance, found)
    _try(_look_at_processes, None, found)
    _try(_look_at_logging, None, found)
    _try(_look_at_exits, None, found)
    _try(_look_at_timers, None, found)
    _try(_look_at_numpy, instances, found)
    for stream in instances.get("io.BufferedWriter", []) + instances.get("io.TextIOWrapper", []):
        _try(_flush, stream, found)
    return (
        found.reasons,
        sorted(found.named_fds),
        sorted(found.named_pids),
        sorted(found.safe_fds),
        sorted(found.safe_pids),
        sorted(found.appended_fds),
        sorted(found.owned_fds),
    )


def _try(examine, instance, found):
    # A partly initialised or partly closed object does not count.
    try:
        examine(instance, found)
    except Exception:
        pass


def _fileno(file):
    if isinstance(file, int):
        return file if file >= 0 else None
    try:
        fd = file.fileno()
    except Exception:
        return None
    return fd if isinstance(fd, int) and fd >= 0 else None


# Module and name of each class that is searched.
_CLASSES = (
    ("subprocess", "Popen"),
    ("concurrent.futures.process", "ProcessPoolExecutor"),
    ("multiprocessing.pool", "Pool"),
    ("billiard.pool", "Pool"),
    ("multiprocessing.managers", "BaseManager"),
    ("multiprocessing.queues", "Queue"),
    ("multiprocessing.queues", "SimpleQueue"),
    ("multiprocessing.connection", "_ConnectionBase"),
    ("asyncio.base_events", "BaseEventLoop"),
    ("tempfile", "TemporaryDirectory"),
    ("tempfile", "_TemporaryFileCloser"),
    ("gzip", "GzipFile"),
    ("bz2", "BZ2File"),
    ("lzma", "LZMAFile"),
    ("io", "BufferedWriter"),
    ("io", "BufferedReader"),
    ("io", "TextIOWrapper"),
    ("io", "FileIO"),
    ("weakref", "ReferenceType"),
    ("multiprocessing.synchronize", "SemLock"),
    ("multiprocessing.heap", "BufferWrapper"),
    ("billiard.synchronize", "SemLock"),
    ("billiard.heap", "BufferWrapper"),
    ("multiprocessing.shared_memory", "SharedMemory"),
    ("numpy.random.bit_generator", "BitGenerator"),
    ("numpy.random.bit_generator", "SeedSequence"),
    ("numpy.random.mtrand", "RandomState"),
)


def _instances():
    """Live objects by kind: `module.Class`, `suspended`, `finalized`, `one-way`."""
    wanted = []
    for module, name in _CLASSES:
        cls = getattr(sys.modules.get(module), name, None)
        if isinstance(cls, type):
            wanted.append((cls, "%s.%s" % (module, name)))
    kinds = {}
    found = {}
    for instance in gc.get_objects():
        cls = type(instance)
        try:
            kind = kinds[cls]
        except KeyError:
            kind = kinds[cls] = _kind(cls, wanted)
        if kind is not None:
            found.setdefault(kind, []).append(instance)
    return found


# Bypasses the metaclass, which may return another value.
_MRO = type.__dict__["__mro__"].__get__


def _kind(cls, wanted):
    if cls in _SUSPENDED:
        return "suspended"
    mro = _MRO(cls)
    for candidate, kind in wanted:
        if candidate in mro:
            return kind
    module = cls.__dict__.get("__module__")
    package = module.partition(".")[0] if isinstance(module, str) else ""
    if package in ONE_WAY:
        return "one-way"
    if cls.__flags__ & (1 << 9) and not _is_standard(package):
        for base in mro:
            if base.__dict__.get("__del__") is not None:
                return "finalized"
    return None


def _look_at_file(file, found):
    fd = _fileno(file)
    if fd is not None:
        found.owned_fds.add(fd)


def _look_at_reader(reader, found):
    fd = _fileno(reader)
    if fd is not None and _path(fd) in _RANDOM_DEVICES:
        # Every worker would return the bytes that wait in its buffer.
        _discard(reader)
        _random_readers.append(reader)


def _look_at_lock(lock, found):
    progress = getattr(sys.modules.get("tqdm.std"), "TqdmDefaultWriteLock", None)
    # That of progress bars: its holder only writes one line.
    if id(lock) in found.owned_locks or lock is getattr(progress, "mp_lock", None):
        return
    # Such as the lock of a condition.
    found.owned_locks.add(id(lock))
    package = type(lock).__module__.partition(".")[0]
    found.add("%s.%s, which a worker that is killed may hold forever" % (package, type(lock).__name__))


def _look_at_memory(memory, found):
    package = type(memory).__module__.partition(".")[0]
    found.add("memory of %s.Value or Array, which all workers would share" % package)


def _look_at_shared_memory(memory, found):
    # Memory that another process has created is shared in any case.
    if memory._flags & os.O_CREAT and memory._mmap is not None:
        what = "SharedMemory %r, which all workers would share" % memory.name
        found.add("multiprocessing.shared_memory." + what)


def _look_at_popen(popen, found):
    # It is a child of this process, so `poll` collects its status correctly.
    if popen.poll() is None:
        args = popen.args
        if not isinstance(args, (str, bytes)):
            args = " ".join(map(str, args)) if isinstance(args, (list, tuple)) else str(args)
        found.add(
            "process %d %r started by subprocess.Popen" % (popen.pid, str(args)[:80]),
            [file for file in (popen.stdin, popen.stdout, popen.stderr) if file],
            [popen.pid],
        )


def _look_at_executor(executor, found):
    queues = [executor._call_queue, executor._result_queue]
    if queues == [None, None]:
        return
    queues.append(executor._executor_manager_thread_wakeup)
    found.add(
        "concurrent.futures.ProcessPoolExecutor",
        _ends(queues),
        list(executor._processes or ()),
    )


def _look_at_pool(pool, found):
    ends = _ends([pool._inqueue, pool._outqueue, getattr(pool, "_change_notifier", None)])
    pids = [process.pid for process in pool._pool if process.is_alive()]
    if pids:
        found.add("multiprocessing.Pool of %d processes" % len(pids), ends, pids)
    elif pool._state == "TERMINATE":
        # It is shut down, and its pipes are unused.
        found.safe_fds.update(ends)


def _look_at_manager(manager, found):
    process = manager._process
    if process is not None and process.is_alive():
        name = type(manager).__name__
        found.add("multiprocessing %s (process %d)" % (name, process.pid), (), [process.pid])


def _look_at_queue(queue, found):
    for lock in ("_rlock", "_wlock", "_sem", "_cond", "_unfinished_tasks", "_notempty"):
        found.owned_locks.add(id(getattr(queue, lock, None)))
    condition = getattr(queue, "_cond", None)
    for lock in ("_lock", "_sleeping_count", "_woken_count", "_wait_semaphore"):
        found.owned_locks.add(id(getattr(condition, lock, None)))
    name = type(queue).__name__
    ends = _ends([queue])
    if ends:
        found.add("multiprocessing.%s (descriptors %s)" % (name, _list(ends)), ends)


def _ends(queues):
    files = []
    for queue in queues:
        files += [getattr(queue, "_reader", None), getattr(queue, "_writer", None)]
    return [fd for fd in map(_fileno, files) if fd is not None]


def _look_at_connection(connection, found):
    fd = _fileno(connection)
    if fd is not None:
        found.add("end of a multiprocessing.Pipe (descriptor %d)" % fd, [fd])


def _look_at_loop(loop, found):
    if loop.is_closed():
        return
    selector = getattr(loop, "_selector", None)
    files = [getattr(loop, "_ssock", None), getattr(loop, "_csock", None), selector]
    if selector is not None:
        files += list(selector.get_map() or ())
    name = "%s.%s" % (type(loop).__module__.partition(".")[0], type(loop).__name__)
    fds = sorted({fd for fd in map(_fileno, files) if fd is not None})
    found.add("event loop %s (descriptors %s)" % (name, _list(fds)), fds)


def _look_at_compressor(file, found):
    # Every worker would write the data that the compressor buffers.
    if not file.closed and file.writable():
        fd = _fileno(file)
        if fd is not None:
            name = type(file).__name__
            found.add("%s opened for writing by %s" % (_path(fd), name), [fd])


def _path(fd):
    return os.readlink("/proc/self/fd/%d" % fd)


def _list(numbers):
    return ", ".join(map(str, numbers))


_KINDS = (
    ("subprocess.Popen", _look_at_popen),
    ("concurrent.futures.process.ProcessPoolExecutor", _look_at_executor),
    ("multiprocessing.pool.Pool", _look_at_pool),
    ("billiard.pool.Pool", _look_at_pool),
    ("multiprocessing.managers.BaseManager", _look_at_manager),
    ("multiprocessing.queues.Queue", _look_at_queue),
    ("multiprocessing.queues.SimpleQueue", _look_at_queue),
    ("multiprocessing.connection._ConnectionBase", _look_at_connection),
    ("asyncio.base_events.BaseEventLoop", _look_at_loop),
    ("tempfile.TemporaryDirectory", _look_at_directory),
    ("tempfile._TemporaryFileCloser", _look_at_closer),
    ("gzip.GzipFile", _look_at_compressor),
    ("bz2.BZ2File", _look_at_compressor),
    ("lzma.LZMAFile", _look_at_compressor),
    ("suspended", _look_at_suspended),
    ("io.FileIO", _look_at_file),
    ("io.BufferedReader", _look_at_reader),
    # Behind the queues that own locks.
    ("multiprocessing.heap.BufferWrapper", _look_at_memory),
    ("billiard.heap.BufferWrapper", _look_at_memory),
    ("multiprocessing.synchronize.SemLock", _look_at_lock),
    ("billiard.synchronize.SemLock", _look_at_lock),
    ("multiprocessing.shared_memory.SharedMemory", _look_at_shared_memory),
)


def _look_at_processes(_, found):
    for package in ("multiprocessing", "billiard"):
        process = sys.modules.get(package + ".process")
        if process is None:
            continue
        # This also joins those that have exited.
        for child in process.active_children():
            daemon = "daemon " if child.daemon else ""
            found.add(
                "%sprocess %d %r started by %s" % (daemon, child.pid, child.name, package),
                (),
                [child.pid],
            )


def _look_at_trackers(found):
    # It only counts names, with atomic writes.
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    fd, pid = getattr(tracker, "_fd", None), getattr(tracker, "_pid", None)
    if isinstance(fd, int) and isinstance(pid, int):
        found.safe_fds.add(fd)
        found.safe_pids.add(pid)


def _look_at_logging(_, found):
    logging = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        handler = reference()
        if handler is not None:
            _try(_look_at_handler, handler, found)


def _look_at_handler(handler, found):
    if handler is not None:
        # Every worker would write the buffered records of a handler again.
        handler.flush()
        for name in ("sock", "socket"):
            _look_at_sender(getattr(handler, name, None), found)
        stream = getattr(handler, "stream", None)
        fd = _fileno(stream)
        if fd is not None and not stream.readable():
            found.appended_fds.add(fd)


def _look_at_one_way(client, found):
    for value in list(getattr(client, "__dict__", {}).values()):
        _look_at_sender(value, found)


def _look_at_sender(socket, found):
    sockets = sys.modules.get("socket")
    if isinstance(socket, getattr(sockets, "socket", ())) and socket.type == sockets.SOCK_DGRAM:
        fd = _fileno(socket)
        if fd is not None:
            found.safe_fds.add(fd)


def _look_at_timers(_, found):
    signal = sys.modules.get("signal")
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        which = getattr(signal, name, None)
        if which is not None and any(signal.getitimer(which)):
            found.add("timer of signal.setitimer or signal.alarm (%s)" % name)
    with open("/proc/self/timers") as timers:
        if timers.read():
            found.add("timer of timer_create")


def _flush(stream, found):
    # Every worker would write the buffered data again.
    if not stream.closed and stream.writable() and _fileno(stream) not in (None, 0, 1, 2):
        if _fileno(stream) not in found.named_fds:
            stream.flush()
