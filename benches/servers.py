"""How pyserve and its peers are started: two worker processes of one thread each, no access log.

Each server is a function from a ``Site`` to the command lines that make it up. They are set as
their own documents recommend for production, and to their advantage where there is a choice. With
``Site.defaults`` the numbers of processes and threads are those of each server's documents instead.
"""

import functools
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import measure

TOP = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target").resolve()
PROVISION = TOP / "tests/provision/provision.sh"
WORKERS = 2
BOOT_S = 60
STOP_S = 10


@dataclass
class Site:
    """One application on one port: what a server needs to know."""

    module: str
    callable: str
    chdir: Path
    venv: Path
    pyserve: Path
    work: Path
    port: int
    env: dict = field(default_factory=dict)
    defaults: bool = False
    # Where its processes may run; empty for all CPUs.
    cpus: frozenset = frozenset()

    @property
    def app(self):
        return f"{self.module}:{self.callable}"

    def tool(self, name):
        return str(self.venv / "bin" / name)


def pyserve(site):
    command = [str(site.pyserve), "--bind", f"127.0.0.1:{site.port}", "--access-log", "off", "--chdir", str(site.chdir)]
    if site.module:
        command += ["--app", site.app, "--venv", str(site.venv)]
        command += [] if site.defaults else ["--workers", str(WORKERS), "--threads", "1"]
    else:
        command += ["--root", str(site.chdir)]
    return [command]


def nginx_uwsgi(site):
    """uWSGI behind nginx over a Unix socket, without the interpreter's lock where one thread needs none.

    Its quick start has four processes of two threads.
    """
    processes, threads = (4, "threads = 2") if site.defaults else (WORKERS, "")
    ini = site.work / "uwsgi.ini"
    ini.write_text(
        UWSGI_INI.format(
            site=site, socket=site.work / "uwsgi.sock", processes=processes, threads=threads, backlog=backlog()
        )
    )
    http = f"upstream app {{ server unix:{site.work}/uwsgi.sock; }}"
    return [[site.tool("uwsgi"), "--ini", str(ini)], nginx_command(site, http, UWSGI_PASS)]


def nginx(site):
    """Serves the files of ``site.chdir``, and remembers open ones."""
    return [nginx_command(site, NGINX_FILES, f"root {site.chdir};\nif_modified_since before;")]


def nginx_command(site, http, server):
    """Its command line, with these directives in its ``http`` and in its only ``server``."""
    conf = site.work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(
        NGINX_CONF.format(user=user, workers=WORKERS, work=site.work, http=http, port=site.port, server=server)
    )
    return [path_of("nginx"), "-p", str(site.work), "-c", str(conf), "-e", "stderr"]


def h2o(site):
    """Serves the files of ``site.chdir``; by itself it remembers open ones only for a moment."""
    conf = site.work / "h2o.conf"
    user = "user: root" if os.getuid() == 0 else ""
    conf.write_text(H2O_CONF.format(user=user, workers=WORKERS, work=site.work, port=site.port, root=site.chdir))
    return [[path_of("h2o"), "--conf", str(conf)]]


def granian(site):
    """A worker per CPU; by itself it takes as many threads as its backlog needs."""
    threads = [] if site.defaults else ["--blocking-threads", "1"]
    return [[
        site.tool("granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(site.port),
        "--workers", str(WORKERS), *threads, "--no-access-log", "--log-level", "warning", site.app,
    ]]  # fmt: skip


def gunicorn(site):
    """With the thread pool: its default worker closes each connection after one answer.

    Its documents recommend 2 × CPUs + 1 workers, and 2 to 4 × CPUs threads.
    """
    workers, threads = (2 * WORKERS + 1, 2 * WORKERS) if site.defaults else (WORKERS, 4)
    return [[
        site.tool("gunicorn"), "--bind", f"127.0.0.1:{site.port}", "--workers", str(workers), "--log-level", "warning",
        "--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "75", "--preload", site.app,
    ]]  # fmt: skip


def bjoern(site):
    """Two processes on one port, each its own server: no supervisor, no isolation, no front, no threads."""
    program = (
        f"import os, sys; sys.path.insert(0, os.getcwd()); import bjoern; "
        f"from {site.module} import {site.callable} as app; "
        f"run = lambda: bjoern.run(app, '127.0.0.1', {site.port}, reuse_port=True); "
        f"[os.fork() or run() for _ in range({WORKERS})]; os.wait()"
    )
    return [[site.tool("python"), "-c", program]]


SERVERS = {
    "pyserve": pyserve,
    "nginx+uWSGI": nginx_uwsgi,
    "gunicorn": gunicorn,
    "Granian": granian,
    "bjoern": bjoern,
    "nginx": nginx,
    "h2o": h2o,
}


class ServerFailed(Exception):
    """A server did not start, died under load, or gave wrong answers."""


class Running:
    """A server that runs: answers on its port from the end of ``wait_ready`` until ``stop``.

    ``start`` is one of ``SERVERS``, or the like.
    """

    def __init__(self, start, site):
        self.address = f"127.0.0.1:{site.port}"
        self.url = f"http://{self.address}"
        pin = functools.partial(os.sched_setaffinity, 0, site.cpus) if site.cpus else None
        self.log = site.work / "log"
        self.processes = []
        with open(self.log, "wb") as log:
            for command in start(site):
                self.processes.append(subprocess.Popen(
                    command, cwd=site.chdir, env={**os.environ, **site.env}, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True, preexec_fn=pin,
                ))  # fmt: skip

    def wait_ready(self, verify):
        """Asks until the right answer comes; ``verify`` raises for all others."""
        deadline = time.monotonic() + BOOT_S
        while True:
            try:
                return verify(self.url)
            except (OSError, ValueError) as error:
                ended = any(process.poll() is not None for process in self.processes)
                if ended or time.monotonic() > deadline:
                    raise self.failed(error) from error
                time.sleep(0.05)

    def load(self, path, connections, seconds, **more):
        return self.measured(measure.load, self.url + path, self.pids(), connections, seconds, **more)

    def paced(self, *arguments, **more):
        return self.measured(measure.paced, self.address, *arguments, **more)

    def measured(self, what, *arguments, **more):
        try:
            return what(*arguments, **more)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            raise self.failed(error) from error

    def failed(self, error):
        codes = [process.poll() for process in self.processes]
        tail = self.log.read_text(errors="replace")[-3000:]
        return ServerFailed(f"{error}; exit codes so far {codes}; its log ends with:\n{tail}")

    def memory_mib(self):
        return measure.memory_mib(self.pids())

    def pids(self):
        return [process.pid for process in self.processes]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for process in self.processes:
            members = measure.tree(process.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
            for member in members[1:]:
                kill_if_alive(member, process.pid)


def kill_if_alive(member, session):
    """Ends what a server left behind; the session tells it from a later process of that number."""
    try:
        if os.getsid(member) == session:
            os.kill(member, signal.SIGKILL)
    except ProcessLookupError:
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@functools.cache
def path_of(name):
    """The machine's nginx or h2o, or one unpacked for this project; ``None`` where neither is possible."""
    directory = TARGET / "provision" / name
    return str(directory / name) if provision(name, str(directory)) == 0 else None


def provision(*arguments):
    """Installs what the machine lacks; the exit code, 3 for what it cannot have."""
    return subprocess.run([PROVISION, *arguments], stdin=subprocess.DEVNULL, timeout=1800).returncode


def backlog():
    return min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))


UWSGI_INI = """\
[uwsgi]
module = {site.app}
chdir = {site.chdir}
virtualenv = {site.venv}
socket = {socket}
chmod-socket = 660
listen = {backlog}
master = true
processes = {processes}
{threads}
need-app = true
single-interpreter = true
thunder-lock = true
die-on-term = true
vacuum = true
disable-logging = true
harakiri = 60
buffer-size = 32768
"""

UWSGI_PASS = """\
        server_name _;
        client_max_body_size 100m;
        client_body_buffer_size 128k;
        location / {
            uwsgi_pass app;
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param CONTENT_TYPE $content_type;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param DOCUMENT_ROOT $document_root;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param REQUEST_SCHEME $scheme;
            uwsgi_param REMOTE_ADDR $remote_addr;
            uwsgi_param REMOTE_PORT $remote_port;
            uwsgi_param SERVER_PORT $server_port;
            uwsgi_param SERVER_NAME $server_name;
        }
"""

NGINX_CONF = """\
{user}
worker_processes {workers};
daemon off;
pid {work}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {server}
    }}
}}
"""

NGINX_FILES = """\
gzip_static on;
    types { text/plain txt; text/css css; }
    open_file_cache max=10000 inactive=60s;
    open_file_cache_valid 1s;
"""

H2O_CONF = """\
{user}
num-threads: {workers}
max-connections: 4096
error-log: /dev/stderr
http1-request-timeout: 75
limit-request-body: 104857600
hosts:
  default:
    listen:
      host: 127.0.0.1
      port: {port}
    paths:
      /:
        file.dir: {root}
        file.send-gzip: ON
"""
