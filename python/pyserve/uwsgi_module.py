"""The module `uwsgi` of an application under pyserve, with `uwsgi_module = true`.

Its functions take and return what those of uWSGI 2.0 take and return. Cache and locks are in the
server process: each thread that uses them has a connection to it, made with a socket pair
whose other end goes through `_door`. A thread, or a process, that ends loses its locks with its
connection.

What uWSGI has and pyserve has not raises NotImplementedError when it is called.
"""

import _socket
import array
import os
import struct
import threading
import time
import weakref

# `_facts` is in the namespace: options, master, is_reload, processes, threads, door, hostname.
_door = _facts["door"]
_set_log_var = _facts["set_log_var"]
_get_log_var = _facts["get_log_var"]
_lines = _facts["lines"]

#: The version of uWSGI whose functions these are.
version = b"2.0.31"
version_info = (2, 0, 31, 0, b"")
#: The options that uWSGI would have got: True, or bytes.
opt = {name: True if value is None else value for name, value in _facts["options"]}
numproc = _facts["processes"]
cores = _facts["threads"]
has_threads = 1
is_a_reload = _facts["is_reload"]
hostname = _socket.gethostname().encode()
started_on = int(time.time())
buffer_size = 65536
loop = None
unbit = False
magic_table = {}
#: An application may set these, as under uWSGI.
applications = None
applist = (_facts["mount"],)
post_fork_hook = None
atexit = None

SPOOL_RETRY = -1
SPOOL_OK = -2
SPOOL_IGNORE = 0

_worker = 0
_local = threading.local()
_connections = weakref.WeakSet()


class _Connection(_socket.socket):
    """A socket as the interpreter has it: gevent and the like do not replace this one."""

    __slots__ = ("__weakref__",)


_HEADER = struct.Struct("<BxHHxxqQ")
_LONGEST_VALUE = 128 << 10
_LONGEST_KEY = 2048
# A wait is cut into pieces, between which a request that is over its deadline can be interrupted.
_PIECE = 1.0
_PATIENCE = 30.0
(
    _GET,
    _SET,
    _UPDATE,
    _DELETE,
    _EXISTS,
    _ADD,
    _SUBTRACT,
    _MULTIPLY,
    _DIVIDE,
    _NUMBER,
    _CLEAR,
    _KEYS,
) = range(1, 13)
_LOCK, _UNLOCK, _IS_LOCKED, _RELOAD, _STOP = 20, 21, 22, 30, 31


def worker_id():
    """The number of this worker, from 1; 0 in the process that forks."""
    return _worker


def masterpid():
    """The process id of the server."""
    return _facts["master"]


def mule_id():
    """Always 0: there are no mules."""
    return 0


def i_am_the_spooler():
    """Always None: there is no spooler."""
    return None


def in_farm(name=None):
    """Always None: there are no farms."""
    return None


def ready():
    """True: the application is loaded."""
    return True


def micros():
    """The time in microseconds."""
    return time.time_ns() // 1000


def mem():
    """The resident set size and the address space of this process in bytes."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = file.read().split()
        size = os.sysconf("SC_PAGE_SIZE")
        return (int(pages[1]) * size, int(pages[0]) * size)
    except (OSError, ValueError, IndexError):
        return (0, 0)


class _Worker(dict):
    def __missing__(self, key):
        raise NotImplementedError(
            "uwsgi.workers(): pyserve does not know %r of a worker (see `pyserve status`)" % key
        )


def workers():
    """Facts about every worker."""
    found = {}
    for number, pid, served, is_busy in _lines():
        if not pid:
            continue
        worker = found.setdefault(
            number,
            _Worker(
                id=number + 1,
                pid=pid,
                requests=0,
                delta_requests=0,
                signals=0,
                status=b"idle",
            ),
        )
        worker["requests"] += served
        worker["delta_requests"] += served
        if is_busy:
            worker["status"] = b"busy"
    for worker in found.values():
        worker["apps"] = (
            _Worker(id=0, modifier1=0, mountpoint=b"", requests=worker["requests"]),
        )
    return tuple(found[number] for number in sorted(found))


def total_requests():
    """The requests that the present workers have answered."""
    return sum(served for _, _, served, _ in _lines())


def request_id():
    """The requests that this worker has answered."""
    return sum(served for number, _, served, _ in _lines() if number == _worker - 1)


def log(message):
    """Writes a line to the log of the server."""
    import sys

    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    if not isinstance(text, str):
        raise TypeError("uwsgi.log() takes str or bytes, not %s" % type(message).__name__)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    return True


def set_logvar(name, value):
    """Sets a variable of the request's line in the access log, `$logvar_NAME`.

    It has to be set before the first byte of the body is sent.
    """
    _set_log_var(_bytes(name), _bytes(value))


def get_logvar(name):
    """The value that this request has set, or None."""
    return _get_log_var(_bytes(name))


def reload():
    """Reloads the server gracefully."""
    return _call(_RELOAD) is not None


def stop():
    """Stops the server gracefully."""
    return _call(_STOP) is not None


def cache_get(key, cache=None):
    """The value of a key as bytes, or None."""
    return _call(_GET, cache, key)


def cache_set(key, value, expires=0, cache=None):
    """Sets a key that does not exist: True, or None."""
    return _done(_call(_SET, cache, key, _bytes(value), seconds=expires))


def cache_update(key, value, expires=0, cache=None):
    """Sets a key: True, or None where there is no room."""
    return _done(_call(_UPDATE, cache, key, _bytes(value), seconds=expires))


def cache_del(key, cache=None):
    """Removes a key: True, or None if there is none."""
    return _done(_call(_DELETE, cache, key))


def cache_exists(key, cache=None):
    """True, or None."""
    return _done(_call(_EXISTS, cache, key))


def cache_clear(cache=None):
    """Removes every key."""
    return _done(_call(_CLEAR, cache))


def cache_inc(key, amount=1, expires=0, cache=None):
    """Adds to a number, which is 0 at first."""
    return _done(_call(_ADD, cache, key, number=amount, seconds=expires))


def cache_dec(key, amount=1, expires=0, cache=None):
    """Subtracts from a number."""
    return _done(_call(_SUBTRACT, cache, key, number=amount, seconds=expires))


def cache_mul(key, amount=2, expires=0, cache=None):
    """Multiplies a number."""
    return _done(_call(_MULTIPLY, cache, key, number=amount, seconds=expires))


def cache_div(key, amount=2, expires=0, cache=None):
    """Divides a number."""
    return _done(_call(_DIVIDE, cache, key, number=amount, seconds=expires))


def cache_num(key, cache=None):
    """The number of a key, 0 if there is none."""
    payload = _call(_NUMBER, cache, key)
    return struct.unpack("<q", payload)[0] if payload else 0


def cache_keys(cache=None):
    """All keys, as a list of bytes."""
    keys, last = [], b""
    while True:
        payload = _call(_KEYS, cache, last)
        at = 1
        while at < len(payload):
            (length,) = struct.unpack_from("<H", payload, at)
            last = payload[at + 2 : at + 2 + length]
            keys.append(last)
            at += 2 + length
        if not payload[0]:
            return keys


def lock(number=0):
    """Takes a lock of all workers; waits until it is free."""
    _check_lock(number)
    _call(_LOCK, number=number, waits=True)


def unlock(number=0):
    """Gives it back."""
    _check_lock(number)
    _call(_UNLOCK, number=number)


def is_locked(number=0):
    """True if a thread of any worker holds it."""
    _check_lock(number)
    return _call(_IS_LOCKED, number=number) is not None


def _check_lock(number):
    try:
        most = int(opt.get("locks", 0))
    except (TypeError, ValueError):
        most = 0
    if not 0 <= number <= most:
        raise ValueError("Invalid lock number")


def _bytes(value):
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError("a bytes-like object is required, not '%s'" % type(value).__name__)


def _done(payload):
    return None if payload is None else True


def _call(operation, cache=None, key=b"", value=b"", number=0, seconds=0, waits=False):
    """The payload of the answer; None for no."""
    name, key = _bytes(cache or b""), _bytes(key)
    if cache == "default" or cache == b"default":
        name = b""
    # uWSGI refuses a longer key without an exception, and a longer value as well.
    if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE or len(name) > 255:
        return None
    number = max(-(1 << 63), min(int(number), (1 << 63) - 1))
    seconds = max(0, min(int(seconds), (1 << 63) - 1))
    message = _HEADER.pack(operation, len(name), len(key), number, seconds) + name + key + value
    connection = _connection()
    is_over = False
    try:
        try:
            connection.sendall(message)
        except (BrokenPipeError, ConnectionResetError):
            raise RuntimeError("pyserve has closed the connection of `import uwsgi`") from None
        waited = 0.0
        while True:
            try:
                answer = connection.recv(_LONGEST_VALUE + 4096)
                break
            except _socket.timeout:
                waited += _PIECE
                if not waits and waited >= _PATIENCE:
                    raise RuntimeError("pyserve does not answer `import uwsgi`") from None
        is_over = True
    finally:
        # An answer that comes later would be taken for that of the next message. The process that
        # forks keeps no connection, except with a lock.
        if not is_over or not _worker and operation != _LOCK:
            _close(connection)
    if not answer:
        _close(connection)
        raise RuntimeError("pyserve has closed the connection of `import uwsgi`")
    if answer[0] == 2:
        raise RuntimeError(answer[1:].decode())
    return answer[1:] if answer[0] == 1 else None


def _connection():
    known = getattr(_local, "connection", None)
    if known is not None and known[0] == os.getpid():
        return known[1]
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    ours = _Connection(fileno=ours.detach())
    door = _socket.socket(fileno=os.dup(_door))
    try:
        door.settimeout(_PATIENCE)
        rights = array.array("i", [theirs.fileno()])
        door.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        door.close()
    ours.settimeout(_PIECE)
    _local.connection = (os.getpid(), ours)
    _connections.add(ours)
    return ours


def _close(connection):
    _local.connection = None
    _connections.discard(connection)
    connection.close()


def _after_fork_in_child():
    # The parent's locks must not stay with a child that lives longer.
    for connection in list(_connections):
        try:
            connection.close()
        except OSError:
            pass
    _connections.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _end_request():
    """Releases what a request that exceeded its time has left locked."""
    known = getattr(_local, "connection", None)
    if known is not None:
        _close(known[1])


def _become_worker(number):
    global _worker
    _worker = number + 1


def _run_post_fork():
    if post_fork_hook is not None:
        post_fork_hook()


def _run_atexit():
    if atexit is not None:
        atexit()


def _not_here(name, advice):
    def function(*arguments, **named):
        raise NotImplementedError("uwsgi.%s() is not there under pyserve: %s" % (name, advice))

    function.__name__ = function.__qualname__ = name
    return function


for _names, _advice in (
    (
        "add_cron add_timer add_rb_timer add_file_monitor register_signal signal signal_received"
        " signal_registered signal_wait alarm",
        "use a [[companion]] with `schedule` or `every`",
    ),
    (
        "spool send_to_spooler set_spooler_frequency spooler_jobs spooler_get_task spooler_pid"
        " mule_msg mule_get_msg farm_msg farm_get_msg",
        "use a task queue such as Celery in a [[companion]]",
    ),
    (
        "websocket_handshake websocket_recv websocket_recv_nb websocket_send"
        " websocket_send_binary websocket_send_from_sharedarea"
        " websocket_send_binary_from_sharedarea chunked_read chunked_read_nb",
        "WebSockets need an ASGI server as `upstream`",
    ),
    (
        "async_connect async_sleep connect close is_connected recv send wait_fd_read"
        " wait_fd_write ready_fd suspend green_schedule call connection_fd disconnect",
        "use a thread, or a library for the network",
    ),
    (
        "rpc rpc_list register_rpc scrolls lord_scroll i_am_the_lord sharedarea_read"
        " sharedarea_write sharedarea_read8 sharedarea_write8 sharedarea_read32"
        " sharedarea_write32 sharedarea_read64 sharedarea_write64 sharedarea_inc32"
        " sharedarea_inc64 sharedarea_dec64 sharedarea_rlock sharedarea_wlock"
        " sharedarea_unlock queue_push queue_pop queue_pull queue_pull_last queue_get"
        " queue_set queue_slot queue_pull_slot queue_last queue_size queue_push_slot",
        "use Redis or the database",
    ),
    (
        "metric_get metric_set metric_inc metric_dec metric_mul metric_div metric_set_max"
        " metric_set_min",
        "metrics are at `admin`; a library for Prometheus has those of the application",
    ),
    (
        "sendfile offload",
        "return environ['wsgi.file_wrapper'](file), or the header X-Accel-Redirect",
    ),
    ("set_user_harakiri", "the limit is `request_timeout`"),
    (
        "accepting add_var cl embedded_data extract listen_queue log_this_request logsize"
        " parsefile set_warning_message setprocname sockets start_response",
        "it has no counterpart",
    ),
):
    for _name in _names.split():
        globals()[_name] = _not_here(_name, _advice)


def __getattr__(name):
    raise AttributeError("module 'uwsgi' of pyserve has no attribute %r" % name)
