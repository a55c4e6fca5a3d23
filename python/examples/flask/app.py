"""A small Flask site: JSON, a form with a session, an upload, a download and a stream.

Try it with

    pyserve --chdir python/examples/flask --app app

These may be set in the environment:

    EXAMPLE_MEDIA      directory of uploaded files  (media)
    FLASK_SECRET_KEY   signs sessions; set your own wherever others can reach the site
"""

import hashlib
import os
import re
import secrets
import time
from pathlib import Path

from flask import Flask, abort, jsonify, redirect, render_template, request, send_file, session, url_for

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ.get("FLASK_SECRET_KEY", "known-to-every-reader-of-this-example")
app.config["MEDIA"] = Path(os.environ.get("EXAMPLE_MEDIA") or Path(app.root_path, "media")).resolve()

BLOCK = 64 * 1024
KEY = re.compile(r"[0-9a-f]{32}")


@app.get("/")
def index():
    return render_template("index.html", name=session.get("name"), pid=os.getpid())


@app.post("/name")
def remember_name():
    """Keeps the visitor's name in the session."""
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= 100:
        abort(400, "a name has 1 to 100 characters")
    session["name"] = name
    return redirect(url_for("index"), code=303)


@app.get("/api")
def api():
    return jsonify(message="Hello from Flask", pid=os.getpid(), name=session.get("name"))


@app.post("/api")
def api_post():
    """Sends the posted JSON back."""
    return jsonify(received=request.get_json(), pid=os.getpid())


@app.post("/documents")
def upload():
    """Stores one file under a generated key and returns its facts."""
    file = request.files.get("file")
    if file is None or not file.filename:
        abort(400, "there is no file in the form")
    key = secrets.token_hex(16)
    app.config["MEDIA"].mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with open(app.config["MEDIA"] / key, "xb") as stored:
        for block in iter(lambda: file.stream.read(BLOCK), b""):
            stored.write(block)
            digest.update(block)
            size += len(block)
    url = url_for("download", key=key)
    return jsonify(name=file.filename, size=size, sha256=digest.hexdigest(), url=url), 201


@app.get("/documents/<key>")
def download(key):
    path = app.config["MEDIA"] / key
    if not KEY.fullmatch(key) or not path.is_file():
        abort(404)
    return send_file(path, mimetype="application/octet-stream", as_attachment=True, download_name=key)


@app.get("/stream")
def stream():
    """Some lines with a pause before each; ``?pieces=5&pause_ms=300``."""
    pieces = bounded("pieces", 5, 50)
    pause = bounded("pause_ms", 300, 2000) / 1000
    return app.response_class(produce(pieces, pause), mimetype="text/plain")


def produce(pieces, pause):
    for number in range(1, pieces + 1):
        time.sleep(pause)
        yield f"piece {number} of {pieces} from process {os.getpid()}\n"


def bounded(name, default, most):
    return min(max(request.args.get(name, default, type=int), 0), most)
