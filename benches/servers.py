"""How pyserve and its peers are started: two worker processes of one thread each, no access log.

Each server is a function from a ``Site`` to the command lines that make it up. They are set as
their own documents recommend for production, and to their advantage where there is a choice.
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

    @property
    def app(self):
        return f"{self.module}:{self.callable}"

    def tool(self, name):
        return str(self.venv / "bin" / name)


def pyserve(site):
    return [[
        str(site.pyserve), "--app", site.app, "--chdir", str(site.chdir), "--venv", str(site.venv),
        "--bind", f"127.0.0.1:{site.port}", "--workers", str(WORKERS), "--threads", "1", "--access-log", "off",
    ]]  # fmt: skip


def nginx_uwsgi(site):
    """uWSGI behind nginx over a Unix socket, without the interpreter's lock: one thread needs none."""
    ini = site.work / "uwsgi.ini"
    ini.write_text(UWSGI_INI.format(site=site, socket=site.work / "uwsgi.sock", workers=WORKERS, backlog=backlog()))
    http = f"upstream app {{ server unix:{site.work}/uwsgi.sock; }}"
    return [[site.tool("uwsgi"), "--ini", str(ini)], nginx(site, http, UWSGI_PASS)]


def nginx(site, http, server, workers=WORKERS):
    """Its command line alone, with these directives in its ``http`` and in its only ``server``."""
    conf = site.work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(
        NGINX_CONF.format(user=user, workers=workers, work=site.work, http=http, port=site.port, server=server)
    )
    return [nginx_path(), "-p", str(site.work), "-c", str(conf), "-e", "stderr"]


def granian(site):
    return [[
        site.tool("granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(site.port),
        "--workers", str(WORKERS), "--blocking-threads", "1", "--no-access-log", "--log-level", "warning", site.app,
    ]]  # fmt: skip


def gunicorn(site):
    """With the thread pool: its default worker closes each connection after one answer."""
    return [[
        site.tool("gunicorn"), "--bind", f"127.0.0.1:{site.port}", "--workers", str(WORKERS), "--log-level", "warning",
        "--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--preload", site.app,
    ]]  # fmt: skip


def bjoern(site):
    """Two processes on one port, each its own server: no supervisor, no isolation, no front."""
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
    "Granian": granian,
    "gunicorn": gunicorn,
    "bjoern": bjoern,
}


class ServerFailed(Exception):
    """A server did not start, died under load, or gave wrong answers."""


class Running:
    """A server that runs: answers on its port from the end of ``wait_ready`` until ``stop``.

    ``start`` is one of ``SERVERS``, or the like.
    """

    def __init__(self, start, site):
        self.url = f"http://127.0.0.1:{site.port}"
        self.log = site.work / "log"
        self.processes = []
        with open(self.log, "wb") as log:
            for command in start(site):
                self.processes.append(subprocess.Popen(
                    command, cwd=site.chdir, env={**os.environ, **site.env}, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
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

    def load(self, path, connections, seconds, fields=None, script=None):
        try:
            return measure.load(self.url + path, self.pids(), connections, seconds, fields, script)
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
def nginx_path():
    """The machine's nginx, or one made for this project; ``None`` where none can be had."""
    directory = TARGET / "provision/nginx"
    return str(directory / "nginx") if provision("nginx", str(directory)) == 0 else None


def provision(*arguments):
    """Has what the machine lacks made; the exit code, 3 for what it cannot have."""
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
processes = {workers}
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
