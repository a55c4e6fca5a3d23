"""A small site for any WSGI server: standard library only.

``/css``, ``/js``, ``/images`` and ``/static`` beside this file belong to the page; the server
sends them without Python. Try it with

    pyserve --chdir python/examples --app hello.wsgi
"""

import html
import json
import os
import platform
import string
import threading
import time
from urllib.parse import parse_qs

try:
    import pyserve
except ImportError:  # Another server runs this file: everything works, but workers have no number.
    pyserve = None

BLOCK = 64 * 1024


def application(environ, start_response):
    """Selects the page by its path and checks the method."""
    path = environ.get("PATH_INFO") or "/"
    if path not in PAGES:
        return send_text(start_response, "404 Not Found", "There is no such page.\n")
    methods, page = PAGES[path]
    if environ["REQUEST_METHOD"] not in methods:
        allow = [("Allow", ", ".join(methods))]
        return send_text(start_response, "405 Method Not Allowed", "Use another method.\n", allow)
    return page(environ, start_response)


def landing(environ, start_response):
    """The page itself; its script requests ``/api``, ``/stream`` and ``/echo``."""
    facts = {name: html.escape(str(value)) for name, value in describe(environ).items()}
    body = PAGE.substitute(facts).encode("utf-8")
    return send(start_response, "200 OK", "text/html; charset=utf-8", body)


def api(environ, start_response):
    """Facts about the worker, as JSON; ``?pause_ms=100`` delays the response."""
    time.sleep(bounded(parse_qs(environ.get("QUERY_STRING", "")), "pause_ms", 0, 2000) / 1000)
    body = json.dumps(describe(environ)).encode("utf-8")
    return send(start_response, "200 OK", "application/json", body, [("Cache-Control", "no-store")])


def show_environ(environ, start_response):
    """The environ of the request, one line per key, without the process's environment."""
    keys = sorted(key for key in environ if key not in os.environ)
    lines = ["%s = %r\n" % (key, environ[key]) for key in keys]
    return send_text(start_response, "200 OK", "".join(lines))


def stream(environ, start_response):
    """Some lines with a pause before each; ``?pieces=5&pause_ms=300``."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    pieces = bounded(query, "pieces", 5, 50)
    pause = bounded(query, "pause_ms", 300, 2000) / 1000
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return produce(pieces, pause)


def produce(pieces, pause):
    for number in range(1, pieces + 1):
        time.sleep(pause)
        yield ("piece %d of %d from process %d\n" % (number, pieces, os.getpid())).encode("utf-8")


def echo(environ, start_response):
    """Sends the request's body back, block by block."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))]
    start_response("200 OK", headers)
    return copy(environ["wsgi.input"], length)


def copy(source, length):
    while length > 0:
        block = source.read(min(length, BLOCK))
        if not block:
            raise OSError("the request's body ended %d bytes early" % length)
        length -= len(block)
        yield block


def describe(environ):
    """Facts about the process that responds."""
    return {
        "server": environ.get("SERVER_SOFTWARE") or "a WSGI server",
        "worker": "–" if pyserve is None else pyserve.worker_id(),
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "python": "%s %s" % (platform.python_implementation(), platform.python_version()),
        "protocol": environ.get("SERVER_PROTOCOL", ""),
        "client": environ.get("REMOTE_ADDR") or "a local socket",
        "time": time.strftime("%H:%M:%S"),
    }


def bounded(query, name, default, most):
    value = query.get(name, [""])[0]
    return min(int(value), most) if value.isascii() and value.isdigit() and len(value) < 9 else default


def send_text(start_response, status, text, headers=()):
    return send(start_response, status, "text/plain; charset=utf-8", text.encode("utf-8"), headers)


def send(start_response, status, content_type, body, headers=()):
    first = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(status, first + list(headers))
    return [body]


PAGES = {
    "/": (("GET", "HEAD"), landing),
    "/api": (("GET", "HEAD"), api),
    "/environ": (("GET", "HEAD"), show_environ),
    "/stream": (("GET", "HEAD"), stream),
    "/echo": (("POST",), echo),
}

PAGE = string.Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>It works – pyserve</title>
<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/css/hello.css">
<script src="/js/hello.js" defer></script>
</head>
<body>
<header>
  <img src="/images/pyserve.svg" alt="A request passes the front and reaches an idle worker" width="420" height="220">
  <div>
    <p class="eyebrow">$server</p>
    <h1>It works.</h1>
    <p>This page came out of Python, its styles, script and pictures straight from disk:
       one binary did both.</p>
    <p><time id="clock">$time</time></p>
  </div>
</header>
<main>
  <section>
    <h2>Who answered</h2>
    <dl>
      <dt>Worker</dt><dd id="worker">$worker</dd>
      <dt>Process</dt><dd id="pid">$pid</dd>
      <dt>Thread</dt><dd id="thread">$thread</dd>
      <dt>Python</dt><dd>$python</dd>
      <dt>Protocol</dt><dd>$protocol</dd>
      <dt>You are</dt><dd>$client</dd>
    </dl>
  </section>
  <section>
    <h2>Which process is free</h2>
    <p>Twelve requests at once, each of which keeps its worker for a tenth of a second. An idle worker
       takes the next one; with <code>--workers 1</code> the same process takes them all.</p>
    <p id="dots" class="dots" aria-live="polite"></p>
    <p id="answered"></p>
    <button id="ask">Ask again</button>
  </section>
  <section>
    <h2>Piece by piece</h2>
    <p>A streaming response arrives as it is produced.</p>
    <pre id="pieces" aria-live="polite"></pre>
    <button id="stream">Stream</button>
  </section>
  <section>
    <h2>Echo</h2>
    <form id="echo">
      <label>Say something <input name="text" value="¡Hola, mundo!" autocomplete="off"></label>
      <button>Post</button>
    </form>
    <pre id="answer" aria-live="polite"></pre>
  </section>
</main>
<footer>
  <a href="/environ">environ</a> <a href="/api">JSON</a> <a href="/stream">stream</a>
  <a href="/static/about.txt">a static file</a>
</footer>
</body>
</html>
""")
