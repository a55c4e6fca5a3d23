"""Renewals by ACME under load: ten certificates of a pebble, one after the other, while clients send
over 300 requests a second over kept and new connections inside TLS. Not one may fail.

    cargo build --release
    python3 benches/acme_renewals.py [--pyserve target/release/pyserve] [--renewals 10]

pebble comes from tests/provision/provision.sh; it issues certificates of a short lifetime, so a renewal is
due every few seconds. The output is one line of JSON; the exit code is 1 if a request failed, if the rate
was below the wanted one, or if a renewal did not come.
"""

import argparse
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = "localhost"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
LAST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
# Threads and requests a second of each.
KEPT = (4, 65)
NEW = (4, 25)
WANTED_RATE = 300


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--pyserve", default=str(ROOT / "target/release/pyserve"))
    options.add_argument("--renewals", type=int, default=10)
    options.add_argument("--lifetime", type=int, default=20, help="of a certificate, in seconds")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = run(pathlib.Path(work), options)
    print(json.dumps(result))
    is_good = (
        result["failed"] == 0
        and result["renewals"] >= options.renewals
        and result["rate"] >= WANTED_RATE
    )
    return 0 if is_good else 1


def run(work, options):
    pebble = provisioned("pebble") / "pebble"
    make_certificate(work)
    ports = {name: free_port() for name in ("acme", "management", "plain", "tls")}
    (work / "app.py").write_text(
        "def app(environ, start):\n"
        "    start('200 OK', [('Content-Length', '5')])\n"
        "    return [b'hello']\n"
    )
    config = {
        "listenAddress": f"127.0.0.1:{ports['acme']}",
        "managementListenAddress": f"127.0.0.1:{ports['management']}",
        "certificate": str(work / "cert.pem"),
        "privateKey": str(work / "key.pem"),
        "httpPort": ports["plain"],
        "tlsPort": ports["tls"],
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "certificateValidityPeriod": options.lifetime,
    }
    (work / "pebble.json").write_text(json.dumps({"pebble": config}))
    environment = os.environ | {"PEBBLE_VA_NOSLEEP": "1"}
    log = work / "log"
    with (
        process([pebble, "-config", work / "pebble.json"], work / "pebble.log", environment),
        process(
            [
                options.pyserve,
                *("--app", "app:app", "--chdir", work, "--control", "off"),
                *("--bind", f"127.0.0.1:{ports['plain']}"),
                *("--bind", f"https://127.0.0.1:{ports['tls']}"),
                *("--acme", HOST, "--acme-dir", work / "acme", "--acme-ca", work / "cert.pem"),
                *("--acme-directory", f"https://localhost:{ports['acme']}/dir"),
            ],
            log,
            os.environ,
        ),
    ):
        issued = lambda: log.read_text().count("certificate issued")
        wait_until(lambda: issued() >= 1, 60, log)
        context = context_of(root_of(work, ports["management"]))
        wait_until(lambda: can_connect(context, ports["tls"]), 30, log)
        load = Load(context, ports["tls"])
        first, began = issued(), time.monotonic()
        load.start()
        limit = began + options.renewals * options.lifetime * 2 + 60
        while issued() - first < options.renewals and time.monotonic() < limit:
            time.sleep(0.2)
        # The last one has to be in use too.
        time.sleep(2)
        took = time.monotonic() - began
        load.end()
        return {
            "renewals": issued() - first,
            "seconds": round(took, 1),
            "requests": load.answered,
            "rate": round(load.answered / took),
            "new_connections": load.connections,
            "certificates_seen": len(load.certificates),
            "failed": len(load.failures),
            "first_failures": load.failures[:3],
        }


class Load:
    """Clients with a fixed rate."""

    def __init__(self, context, port):
        self.context, self.port = context, port
        self.answered = self.connections = 0
        self.failures, self.certificates = [], set()
        self.over, self.lock = threading.Event(), threading.Lock()
        clients = [(self.on_kept, KEPT[1])] * KEPT[0] + [(self.on_new, NEW[1])] * NEW[0]
        self.threads = [threading.Thread(target=self.paced, args=client) for client in clients]

    def start(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def paced(self, once, rate):
        state, at = {}, time.monotonic()
        while not self.over.is_set():
            at = max(at + 1 / rate, time.monotonic() - 1)
            time.sleep(max(0, at - time.monotonic()))
            try:
                once(state)
            except Exception as error:
                with self.lock:
                    self.failures.append(f"{type(error).__name__}: {error}")
                state.clear()
            else:
                with self.lock:
                    self.answered += 1

    def on_kept(self, state):
        if "socket" not in state:
            state["socket"] = self.connect()
        exchange(state["socket"], REQUEST)

    def on_new(self, _state):
        with self.connect() as connection:
            exchange(connection, LAST)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.context.wrap_socket(plain, server_hostname=HOST)
        with self.lock:
            self.connections += 1
            self.certificates.add(connection.getpeercert(binary_form=True))
        return connection


def exchange(connection, request):
    connection.sendall(request)
    received = b""
    while not received.endswith(b"\r\n\r\nhello"):
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(f"closed behind {received!r}")
        received += part
    if not received.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(repr(received))


def provisioned(name):
    directory = ROOT / "target/tmp/provision" / name
    script = ROOT / "tests/provision/provision.sh"
    done = subprocess.run(["sh", script, name, directory], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return directory


def make_certificate(work):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "1", "-subj", "/CN=pebble", "-addext", "subjectAltName=DNS:localhost"]
        + ["-keyout", work / "key.pem", "-out", work / "cert.pem"],
        check=True,
        capture_output=True,
    )


def root_of(work, port):
    """The root of pebble's certificates, which differs with each of its starts."""
    context = ssl.create_default_context(cafile=work / "cert.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return re.search("-----BEGIN.*-----END CERTIFICATE-----\n", answer, re.DOTALL)[0]


def context_of(root):
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=root)
    return context


def can_connect(context, port):
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=HOST),
        ):
            return True
    except OSError:
        return False


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_until(is_so, seconds, log):
    limit = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > limit:
            sys.exit(f"nothing within {seconds} s:\n{log.read_text()}")
        time.sleep(0.1)


class process:
    """A process with its output in a file; it ends with the block."""

    def __init__(self, command, log, environment):
        with open(log, "w") as output:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=output,
                env=dict(environment),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


if __name__ == "__main__":
    sys.exit(main())
