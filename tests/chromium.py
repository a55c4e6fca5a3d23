#!/usr/bin/env python3
"""Chromium over TLS, run by hand: a page over HTTP/2 whose script opens a WebSocket, with a root that only this browser trusts.

    apt-get install chromium libnss3-tools openssl && python3 tests/chromium.py [PYSERVE]

The page is a file, the WebSocket a server behind pyserve, once over TCP and once over TLS. What the page has seen it sends through the
WebSocket. Exits with 1 if that is not HTTP/2, a secure context and its own message.
"""

import base64
import functools
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PATIENCE_S = 90
PAGE = """<!doctype html><title>TLS</title><script>
const socket = new WebSocket(`wss://${location.host}/ws`);
socket.onopen = () => socket.send("echo me");
socket.onmessage = message => socket.send(JSON.stringify({
    echo: message.data,
    page: performance.getEntriesByType("navigation")[0].nextHopProtocol,
    secure: isSecureContext,
}));
</script>"""


def main():
    pyserve = Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "target/release/pyserve").resolve()
    with tempfile.TemporaryDirectory(prefix="chromium-") as work:
        work = Path(work)
        certificates(work)
        (work / "site").mkdir()
        (work / "site/index.html").write_text(PAGE)
        return max(try_out(pyserve, work, is_tls) for is_tls in (False, True))


def certificates(work):
    """An authority that the browser of this home trusts, and a certificate for localhost."""
    run = functools.partial(subprocess.run, cwd=work, check=True, capture_output=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run(["openssl", "req", "-x509", *curve, "-days", "30", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Local root"])
    run(["openssl", "req", *curve, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=localhost"])
    (work / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    run([
        "openssl", "x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "30", "-extfile", "ext", "-out", "cert.pem",
    ])  # fmt: skip
    store = work / ".pki/nssdb"
    store.mkdir(parents=True)
    run(["certutil", "-d", f"sql:{store}", "-N", "--empty-password"])
    run(["certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "local", "-i", "ca.pem"])


def try_out(pyserve, work, is_tls):
    seen, done = {}, threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener, work if is_tls else None, seen, done), daemon=True).start()
    scheme = "https" if is_tls else "http"
    settings = work / f"{scheme}.toml"
    settings.write_text(
        f'[[location]]\nprefix = "/ws"\nupstream = "{scheme}://127.0.0.1:{listener.getsockname()[1]}"\n'
        + (f'upstream_ca = "{work}/ca.pem"\n' if is_tls else "")
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([
        pyserve, "--bind", f"https://127.0.0.1:{port}", "--tls-cert", work / "cert.pem", "--tls-key", work / "key.pem",
        "--static", f"/={work}/site", "--config", settings, "--control", "off",
    ], cwd=work, stdout=subprocess.DEVNULL)  # fmt: skip
    browser = subprocess.Popen(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={work}/{scheme}", "--remote-debugging-port=0", f"https://localhost:{port}/index.html",
        ],
        env={**os.environ, "HOME": str(work)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        done.wait(PATIENCE_S)
    finally:
        for process in (browser, server):
            process.terminate()
            process.wait()
        listener.close()
    expected = {"echo": "echo me", "page": "h2", "secure": True}
    print(f"WebSocket by {scheme}: {json.dumps(seen) if seen else 'nothing came'}")
    return 0 if seen == expected else 1


def echo(listener, work, seen, done):
    """A server of WebSockets (RFC 6455) that says one message back and keeps the next one."""
    context = None
    if work:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(work / "cert.pem", work / "key.pem")
    while not done.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            # A look at the server brings no request.
            connection = context.wrap_socket(connection, server_side=True) if context else connection
            with connection, connection.makefile("rwb") as stream:
                serve(stream, seen, done)
        except (OSError, KeyError):
            pass


def serve(stream, seen, done):
    fields = {}
    for line in iter(stream.readline, b"\r\n"):
        if not line:
            return
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    proof = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(proof.encode()).digest()).decode()
    stream.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    stream.flush()
    first = message(stream)
    stream.write(bytes([0x81, len(first)]) + first)
    stream.flush()
    seen.update(json.loads(message(stream)))
    done.set()


def message(stream):
    """The text of one short frame, which a client masks (RFC 6455 §5.3)."""
    _, length = stream.read(2)
    length &= 0x7F
    if length == 126:
        length = int.from_bytes(stream.read(2), "big")
    mask = stream.read(4)
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(stream.read(length)))


if __name__ == "__main__":
    sys.exit(main())
