//! Applications by what their import leaves, each a few lines of code.

/// What a row's code may use; `pid` answers a request.
pub const PRELUDE: &str = "import os, sys
DIR = os.path.dirname(os.path.abspath(__file__))
def path(name, text='text'):
    name = os.path.join(DIR, name)
    with open(name, 'w') as file:
        file.write(text)
    return name
def application(environ, start_response):
    body = str(os.getpid()).encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

/// Code of an application, and what the refusal names.
pub const BREAKS: &[(&str, &[&str])] = &[
    // Descriptors.
    ("ends = os.pipe()", &["pipe (descriptor "]),
    (
        "name = os.path.join(DIR, 'fifo%d' % os.getpid()); os.mkfifo(name); fifo = os.open(name, os.O_RDWR)",
        &["named pipe ", "/fifo"],
    ),
    (
        "import socket; pair = socket.socketpair()",
        &["end of a socket pair (descriptor "],
    ),
    (
        "import socket; s = socket.socket()",
        &["socket without a connection (descriptor "],
    ),
    (
        "import socket; s = socket.create_server(('127.0.0.1', 0))",
        &["socket listening on 127.0.0.1:"],
    ),
    (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))",
        &["UDP socket 127.0.0.1:", " -> 127.0.0.1:9 (descriptor "],
    ),
    (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(os.path.join(DIR, 'dgram%d' % os.getpid()))",
        &["datagram socket ", "/dgram"],
    ),
    (
        "import socket; s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
        &["netlink socket (descriptor "],
    ),
    (
        "import select; e = select.epoll()",
        &["epoll instance (descriptor "],
    ),
    (
        "import ctypes; ctypes.CDLL(None).eventfd(0, 0)",
        &["eventfd (descriptor "],
    ),
    (
        "import ctypes; ctypes.CDLL(None).inotify_init()",
        &["inotify (descriptor "],
    ),
    (
        "import ctypes; ctypes.CDLL(None).timerfd_create(1, 0)",
        &["timerfd (descriptor "],
    ),
    (
        "fd = os.pidfd_open(os.getpid())",
        &["process descriptor (descriptor "],
    ),
    (
        "fd = os.memfd_create('scratch')",
        &["/memfd:scratch", " opened for reading and writing"],
    ),
    // Files with an offset.
    (
        "f = open(path('data.txt'))",
        &["/data.txt opened for reading (descriptor "],
    ),
    (
        "f = open(path('data.txt'), 'r+b', 0)",
        &["/data.txt opened for reading and writing"],
    ),
    (
        "f = open(os.path.join(DIR, 'out'), 'w')",
        &["/out opened for writing"],
    ),
    (
        "f = open(path('log'), 'a+')",
        &["/log opened for reading and appending"],
    ),
    (
        "f = os.open(path('raw'), os.O_RDONLY)",
        &["/raw opened for reading"],
    ),
    (
        "import zipfile; z = zipfile.ZipFile(os.path.join(DIR, 'data.zip'), 'w'); \
         z.writestr('a', 'b'); z.close(); z = zipfile.ZipFile(z.filename)",
        &["/data.zip opened for reading (descriptor "],
    ),
    (
        "import sqlite3; c = sqlite3.connect(os.path.join(DIR, 'db.sqlite3')); \
         c.execute('create table if not exists t (a)')",
        &["/db.sqlite3 opened for reading and writing (descriptor "],
    ),
    (
        "import dbm.dumb, tempfile; f = tempfile.TemporaryFile()",
        &[" (deleted) opened for reading and writing"],
    ),
    // Locks.
    (
        "import fcntl; f = open(path('app.lock'), 'a'); fcntl.flock(f, fcntl.LOCK_EX)",
        &["lock on ", "/app.lock (descriptor "],
    ),
    (
        "import fcntl; f = open(path('app.lock'), 'a'); fcntl.lockf(f, fcntl.LOCK_EX)",
        &["lock on ", "/app.lock (descriptor "],
    ),
    (
        "import fcntl; f = os.open(DIR, os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX)",
        &["lock on ", "/app (descriptor "],
    ),
    (
        "import pty; ends = pty.openpty()",
        &["device /dev/ptmx (descriptor ", "device /dev/pts/"],
    ),
    // Processes.
    (
        "import subprocess; p = subprocess.Popen(['sleep', '1000'])",
        &["process ", "sleep 1000", "started by subprocess.Popen"],
    ),
    (
        "import subprocess; p = subprocess.Popen(['cat'], stdin=-1, stdout=-1)",
        &["'cat' started by subprocess.Popen"],
    ),
    (
        // The pipe ends when the child executes.
        "r, w = os.pipe(); os.fork() or os.execlp('sleep', 'sleep', '1000')
os.close(w); os.read(r, 1); os.close(r)",
        &["process ", "sleep 1000"],
    ),
    (
        "import multiprocessing as m; m = m.get_context('fork')
p = m.Process(target=__import__('time').sleep, args=(1000,), daemon=True); p.start()",
        &["daemon process ", "started by multiprocessing"],
    ),
    (
        "import multiprocessing as m; q = m.get_context('fork').Queue()",
        &["multiprocessing.Queue (descriptors "],
    ),
    (
        "import multiprocessing as m; q = m.get_context('fork').SimpleQueue()",
        &["multiprocessing.SimpleQueue (descriptors "],
    ),
    (
        "import multiprocessing as m; q = m.Pipe()",
        &["end of a multiprocessing.Pipe (descriptor "],
    ),
    (
        "import multiprocessing as m; pool = m.get_context('fork').Pool(2)",
        &["multiprocessing.Pool of 2 processes"],
    ),
    (
        "import multiprocessing as m; manager = m.get_context('fork').Manager(); d = manager.dict()",
        &["multiprocessing SyncManager (process "],
    ),
    (
        "from concurrent.futures import ProcessPoolExecutor; pool = ProcessPoolExecutor(2)",
        &["concurrent.futures.ProcessPoolExecutor"],
    ),
    // Threads.
    (
        "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(2)
pool.submit(int).result()",
        &["thread \"ThreadPoolExecutor-0_0\" (threading.Thread)"],
    ),
    (
        "import _thread, time; _thread.start_new_thread(time.sleep, (1000,))",
        &["(not a Python thread, started by "],
    ),
    // Event loops.
    (
        "import asyncio; loop = asyncio.new_event_loop()",
        &["event loop asyncio._UnixSelectorEventLoop (descriptors "],
    ),
    // Files that an exit removes.
    (
        "import tempfile; d = tempfile.TemporaryDirectory(prefix='scratch-')",
        &[
            "temporary directory '",
            "/scratch-",
            "the first worker that exits removes for all",
        ],
    ),
    (
        "import tempfile; f = tempfile.NamedTemporaryFile(prefix='scratch-')",
        &["temporary file '", "/scratch-"],
    ),
    (
        "import atexit, shutil, tempfile; d = tempfile.mkdtemp(); \
         atexit.register(shutil.rmtree, d)",
        &["exit function shutil.rmtree('"],
    ),
    (
        "import atexit, shutil, tempfile; d = tempfile.mkdtemp()
@atexit.register
def clean_up():
    shutil.rmtree(d)",
        &["exit function ", "clean_up()"],
    ),
    (
        "import atexit, pathlib; p = pathlib.Path(path('app.pid')); atexit.register(p.unlink)",
        &["exit function pathlib", "unlink()"],
    ),
    (
        "import shutil, tempfile, weakref; d = tempfile.mkdtemp()
class Cache: pass
cache = Cache(); weakref.finalize(cache, shutil.rmtree, d)",
        &["finalizer shutil.rmtree('"],
    ),
    (
        "import shutil, tempfile
class Cache:
    def __init__(self): self.dir = tempfile.mkdtemp()
    def __del__(self): self.close()
    def close(self, rmtree=shutil.rmtree): shutil.rmtree(self.dir)
cache = Cache()",
        &[".Cache object that removes files when it ends"],
    ),
    (
        "import atexit, contextlib, shutil, tempfile; stack = contextlib.ExitStack()
stack.callback(shutil.rmtree, tempfile.mkdtemp()); atexit.register(stack.close)",
        &["exit function ", "ExitStack", "close()"],
    ),
    // The same by way of other functions, other names, and programs.
    (
        "import atexit, shutil; D = path('cache')
def clean_up(): in_turn()
def in_turn(): at_last()
def at_last(): shutil.rmtree(D)
atexit.register(clean_up)",
        &["exit function ", "clean_up()"],
    ),
    (
        "import atexit; D = path('cache')
def clean_up(): in_turn()
def in_turn(): os.remove(D); clean_up()
atexit.register(clean_up)",
        &["exit function ", "clean_up()"],
    ),
    (
        "import atexit; from os import rmdir as rm; D = path('cache')
atexit.register(lambda: rm(D))",
        &["exit function ", "<lambda>()"],
    ),
    (
        "import atexit; from os import remove as rm
def maker(rm=rm):
    return lambda: rm('x')
atexit.register(maker())",
        &["exit function ", "<lambda>()"],
    ),
    (
        "import atexit
def clean_up():
    from shutil import move as to
    to('x', 'y')
atexit.register(clean_up)",
        &["exit function ", "clean_up()"],
    ),
    (
        "import atexit, functools, os as system
def clean_up(name): system.unlink(name)
atexit.register(functools.partial(lambda call: call('x'), clean_up))",
        &["exit function "],
    ),
    (
        "import atexit
class Cache:
    def close(self): self.clear()
    def clear(self): erase('x')
erase = os.remove
atexit.register(Cache().close)",
        &["exit function ", "Cache.close()"],
    ),
    (
        "import weakref
class Cache: pass
def clean_up(): in_turn()
def in_turn(): os.rename('x', 'y')
cache = Cache(); weakref.finalize(cache, clean_up)",
        &["finalizer ", "clean_up()"],
    ),
    (
        "import atexit, subprocess; atexit.register(subprocess.call, ['rm', 'x'])",
        &["exit function subprocess.call("],
    ),
    (
        "import atexit, subprocess; atexit.register(lambda: subprocess.run(['rm', 'x']))",
        &["exit function "],
    ),
    (
        "import atexit
def clean_up():
    from subprocess import Popen
    Popen(['rm', 'x'])
atexit.register(clean_up)",
        &["exit function "],
    ),
    (
        "import atexit; atexit.register(os.system, 'rm x')",
        &["exit function ", "system('rm x')"],
    ),
    (
        "import atexit; atexit.register(os.rename, 'x', 'y')",
        &["exit function ", "rename('x', 'y')"],
    ),
    (
        "import atexit; atexit.register(os.replace, 'x', 'y')",
        &["exit function "],
    ),
    (
        "import atexit; atexit.register(os.renames, 'x', 'y')",
        &["exit function "],
    ),
    (
        "import atexit; atexit.register(lambda: os.truncate('x', 0))",
        &["exit function "],
    ),
    (
        "import atexit; atexit.register(lambda: os.removedirs('x'))",
        &["exit function "],
    ),
    (
        "import atexit, shutil; atexit.register(shutil.move, 'x', 'y')",
        &["exit function shutil.move("],
    ),
    (
        "import atexit, pathlib; p = pathlib.Path('x'); atexit.register(p.rename, 'y')",
        &["exit function pathlib", "rename("],
    ),
    (
        "import atexit, pathlib; p = pathlib.Path('x'); atexit.register(lambda: p.replace('y'))",
        &["exit function "],
    ),
    (
        "import atexit; from pathlib import Path; atexit.register(lambda: Path('x').replace('y'))",
        &["exit function "],
    ),
    (
        "import atexit; from pathlib import Path; atexit.register(Path('x').rmdir)",
        &["exit function pathlib", "rmdir()"],
    ),
    // Calls by way of a list, a name, and other registers.
    (
        "import atexit; calls = [lambda: os.unlink('x')]
@atexit.register
def call_all():
    for call in calls: call()",
        &["exit function ", "call_all()"],
    ),
    (
        "import atexit
class Cache:
    def __init__(self): self.calls = [(os.unlink, 'x')]
    def close(self):
        for call, name in self.calls: call(name)
atexit.register(Cache().close)",
        &["exit function ", "Cache.close()"],
    ),
    (
        "import atexit, contextlib; stack = contextlib.ExitStack(); stack.callback(os.unlink, 'x')
atexit.register(lambda: stack.close())",
        &["exit function ", "<lambda>()"],
    ),
    (
        "import atexit, shutil; atexit.register(lambda: getattr(shutil, 'rm' + 'tree')('x'))",
        &["exit function ", "<lambda>()"],
    ),
    (
        "import atexit, operator, pathlib
atexit.register(operator.methodcaller('unlink'), pathlib.Path('x'))",
        &["exit function ", "methodcaller("],
    ),
    (
        "import threading; threading._register_atexit(os.unlink, 'x')",
        &["exit function ", "unlink('x')"],
    ),
    (
        "import weakref
class Cache: pass
cache = Cache(); r = weakref.ref(cache, lambda _: os.unlink('x'))",
        &["weak reference with the callback ", "<lambda>()"],
    ),
    // `finally` blocks of what is suspended.
    (
        "def scratch():
    try: yield 1
    finally: os.unlink('x')
s = scratch(); next(s)",
        &["suspended generator ", ".scratch"],
    ),
    (
        "import contextlib, shutil, tempfile
@contextlib.contextmanager
def scratch():
    name = tempfile.mkdtemp()
    try: yield name
    finally: clean_up(name)
def clean_up(name): shutil.rmtree(name)
stack = contextlib.ExitStack(); stack.enter_context(scratch())",
        &["suspended generator ", ".scratch"],
    ),
    (
        "import contextlib, importlib.resources, zipfile
name = os.path.join(DIR, 'packed%d.zip' % os.getpid())
with zipfile.ZipFile(name, 'w') as z: z.writestr('packed/__init__.py', ''); z.writestr('packed/d', '')
sys.path.insert(0, name); import packed; stack = contextlib.ExitStack()
stack.enter_context(importlib.resources.as_file(importlib.resources.files(packed) / 'd'))",
        &["suspended generator importlib."],
    ),
    (
        "async def scratch():
    try: yield 1
    finally: os.unlink('x')
s = scratch()
try: s.asend(None).send(None)
except StopIteration: pass",
        &["suspended generator ", ".scratch"],
    ),
    // Finalizers by other names.
    (
        "class Cache:
    def __del__(self, call=os.unlink): call('x')
cache = Cache()",
        &[".Cache object that removes files when it ends"],
    ),
    (
        "class Cache:
    def __init__(self): self.call = os.unlink
    def __del__(self): self.call('x')
cache = Cache()",
        &[".Cache object that removes files when it ends"],
    ),
    // What `gc.freeze` hides.
    (
        "import gc, tempfile; d = tempfile.TemporaryDirectory(); gc.freeze()",
        &["temporary directory '"],
    ),
    (
        "import gc
class Cache:
    def __del__(self): os.unlink('x')
cache = [Cache()]; gc.freeze()",
        &[".Cache object that removes files when it ends"],
    ),
    (
        "import asyncio, gc; loop = asyncio.new_event_loop(); gc.freeze()",
        &["event loop asyncio."],
    ),
    // Files that are mapped, and read through a descriptor too.
    (
        "import mmap; f = open(path('data'), 'rb'); m = mmap.mmap(f.fileno(), 0, access=1)",
        &["/data opened for reading (descriptor "],
    ),
    (
        "import mmap; f = os.open(path('data'), os.O_RDONLY); m = mmap.mmap(f, 0, access=1)",
        &["/data opened for reading (descriptor "],
    ),
    (
        "import mmap
with open(path('data'), 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=1)
f = open(os.path.join(DIR, 'data'), 'rb', 0)",
        &["/data opened for reading (descriptor "],
    ),
    (
        "import mmap
with open(path('data'), 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=1)
f = os.open(os.path.join(DIR, 'data'), os.O_RDONLY)",
        &["/data opened for reading (descriptor "],
    ),
    (
        "import _ctypes; f = open(_ctypes.__file__, 'rb')",
        &[" opened for reading (descriptor "],
    ),
    // Memory and locks that the workers would share.
    (
        "import multiprocessing as m; lock = m.get_context('fork').Lock()",
        &["multiprocessing.Lock, which a worker that is killed may hold forever"],
    ),
    (
        "import multiprocessing as m; value = m.get_context('fork').Value('i')",
        &["memory of multiprocessing.Value or Array"],
    ),
    (
        "import multiprocessing as m; value = m.RawArray('i', 10)",
        &["memory of multiprocessing.Value or Array"],
    ),
    (
        "import mmap; m = mmap.mmap(-1, 4096)",
        &["4096 bytes of shared memory, as of mmap.mmap(-1, 4096)"],
    ),
    (
        "from multiprocessing.shared_memory import SharedMemory
s = SharedMemory(create=True, size=100)",
        &["multiprocessing.shared_memory.SharedMemory '"],
    ),
    (
        "from multiprocessing.shared_memory import ShareableList; s = ShareableList([1])",
        &["multiprocessing.shared_memory.SharedMemory '"],
    ),
    // What is held back would be written by each worker.
    (
        "import gzip; f = gzip.open(os.path.join(DIR, 'log.gz'), 'at')",
        &["/log.gz opened for writing by GzipFile"],
    ),
    // Timers.
    (
        "import ctypes; c = ctypes.CDLL(None); t = ctypes.c_void_p()
c.timer_create(1, None, ctypes.byref(t))",
        &["timer of timer_create"],
    ),
    (
        "import signal; signal.alarm(1000)",
        &["timer of signal.setitimer or signal.alarm"],
    ),
];

/// Code of an application that can be forked.
pub const FINE: &[&str] = &[
    "",
    // Log files.
    "f = open(path('log'), 'a')",
    "import logging; logging.basicConfig(filename=os.path.join(DIR, 'log')); logging.error('x')",
    "import logging; logging.basicConfig(filename=path('log'), filemode='w'); logging.error('x')",
    "from logging.handlers import RotatingFileHandler as R; h = R(path('log'), maxBytes=1000)",
    "from logging.handlers import SysLogHandler as S; h = S(('127.0.0.1', 9))",
    "import syslog; syslog.syslog('hello')",
    "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    // Descriptors without a state.
    "n, r, d = open(os.devnull, 'r+'), open('/dev/urandom', 'rb'), os.open(DIR, os.O_RDONLY); r.read(1)",
    "copies = os.dup(1), os.dup(2), open('/dev/null')",
    // Files whose mapping alone is in use.
    "import mmap
with open(path('data'), 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)",
    "import mmap
with open(path('data'), 'rb') as f: m, n = [mmap.mmap(f.fileno(), 0, access=1) for _ in 'ab']
with open(path('data'), 'rb') as f: o = mmap.mmap(f.fileno(), 0, access=1)",
    "import mmap; m = mmap.mmap(-1, 100, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
    // What was started and has ended.
    "import subprocess; text = subprocess.check_output(['uname'])",
    "import subprocess; p = subprocess.Popen(['true']); p.wait()",
    "import threading; t = threading.Thread(target=int); t.start(); t.join()",
    "from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool: pool.submit(int).result()",
    "from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1) as pool: pass",
    "import asyncio
async def main(): await asyncio.sleep(0)
asyncio.run(main())",
    "import tempfile
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile() as f: pass",
    "import multiprocessing as m
with m.get_context('fork').Pool(1) as pool: pool.map(int, [1])
pool.join()",
    "import signal; signal.alarm(1000); signal.alarm(0)",
    // What starts with its first use.
    "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(2)",
    "import tempfile; f = tempfile.SpooledTemporaryFile(); f.write(b'x')",
    "import zipfile, io; z = zipfile.ZipFile(io.BytesIO(), 'w')",
    "import sqlite3; c = sqlite3.connect(':memory:')",
    "import http.client; c = http.client.HTTPConnection('127.0.0.1', 9)",
    // Memory that workers without a fork would share too.
    "from multiprocessing.shared_memory import SharedMemory; import _posixshmem
name = '/own%d' % os.getpid(); fd = _posixshmem.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600)
os.ftruncate(fd, 100); os.close(fd)
s = SharedMemory(name=name[1:]); _posixshmem.shm_unlink(name)",
    // Generators and finalizers that remove nothing, or have not begun.
    "import gc
def g():
    try: yield 1
    finally: os.unlink('x')
def h():
    try: yield 1
    finally: print()
fresh, suspended = g(), h(); next(suspended); gc.freeze()",
    "import weakref
class Cache:
    def __del__(self): self.close()
    def close(self): pass
cache = Cache(); r = weakref.ref(cache, lambda _: None)",
    "import atexit; calls = [print, (len, 'x')]
@atexit.register
def call_all():
    for call in calls: pass",
    "import atexit, os
def clean_up(own=os.getpid()):
    if os.getpid() == own: os.unlink('x')
atexit.register(clean_up)",
    // A name of a method that harmful functions have, of another object; functions in a circle.
    "import atexit, logging, os.path, concurrent.futures, multiprocessing.util
def say(): logging.info(os.path.join('a', 'b').replace('a', 'b')); again()
def again(): say()
atexit.register(say); atexit.register(logging.shutdown)",
    "import atexit
class Proxy:
    def __getattr__(self, name): raise SystemExit
    def __bool__(self): raise SystemExit
proxy = Proxy()
atexit.register(lambda: proxy.close()); atexit.register(print, proxy is None)",
    // Its finalizers run in the process that registers them alone.
    "import multiprocessing.util as u, os, shutil
u.Finalize(None, shutil.rmtree, args=['x'], exitpriority=1)",
    // Catalogs, resources, generators.
    "import gettext; gettext.translation('x', fallback=True)",
    "import importlib.resources as r; text = r.files('json').joinpath('__init__.py').read_text()",
    "import random; r, s, t = random.Random(), random.Random(1), random.SystemRandom()",
];
