#!/usr/bin/env python3
"""Which well-known applications `--preload auto` imports once.

    cargo build --release && python3 benches/preload_verdicts.py [--dir DIR] [NAME...]

Installs each application from the package index into a virtual environment of its own below
`--dir` (kept, so that a second run is quick), makes a small site with it, starts pyserve with two
workers, asks for `/` a few times and prints what pyserve says about preloading. Exits with 1 where
an application is not answered, or not imported once although it is expected to be: pgAdmin is not,
as its import leaves timers and an SQLite connection.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DEADLINE = 180

FLASK = "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef index():\n    return 'ok'\n"

OSCAR_APPS = """analytics checkout address shipping catalogue catalogue.reviews communication partner
basket payment offer order customer search voucher wishlists dashboard dashboard.reports
dashboard.users dashboard.orders dashboard.catalogue dashboard.offers dashboard.partners
dashboard.pages dashboard.ranges dashboard.reviews dashboard.vouchers dashboard.communications
dashboard.shipping""".split()


class Site:
    """A directory, the interpreter of its environment, and what it needs to run."""

    def __init__(self, directory, venv):
        self.dir, self.venv = directory, venv
        self.env = {}

    def run(self, program, *arguments, cwd=None):
        """A program of the environment."""
        command = [str(self.venv / "bin" / program), *arguments]
        env = dict(os.environ, **self.env)
        subprocess.run(command, cwd=cwd or self.dir, env=env, check=True, stdout=subprocess.DEVNULL)

    def write(self, name, text, mode="w"):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, mode) as file:
            file.write(text)
        return path


def flask(site, imports=""):
    site.write("site_app.py", imports + "\n" + FLASK)
    return "site_app:app"


def django(site):
    site.run("django-admin", "startproject", "mysite", ".")
    site.run("python", "manage.py", "migrate", "-v0")
    return "mysite.wsgi"


def wagtail(site):
    site.run("wagtail", "start", "mysite", ".")
    site.run("python", "manage.py", "migrate", "-v0")
    return "mysite.wsgi"


def oscar(site):
    site.run("django-admin", "startproject", "shop", ".")
    configs = ["oscar.config.Shop"]
    for name in OSCAR_APPS:
        parts = [part.capitalize() for part in name.split(".")]
        if parts[0] == "Dashboard":
            parts.reverse()
        configs.append("oscar.apps.%s.apps.%sConfig" % (name, "".join(parts)))
    others = ["django.contrib.sites", "django.contrib.flatpages", "widget_tweaks", "haystack"]
    others += ["treebeard", "sorl.thumbnail", "django_tables2"]
    processors = ["search.context_processors.search_form", "checkout.context_processors.checkout"]
    site.write(
        "shop/settings.py",
        "\nfrom oscar.defaults import *\nSITE_ID = 1\nALLOWED_HOSTS = ['*']\n"
        "INSTALLED_APPS += %r\n" % (configs + others)
        + "HAYSTACK_CONNECTIONS = "
        "{'default': {'ENGINE': 'haystack.backends.simple_backend.SimpleEngine'}}\n"
        "MIDDLEWARE += ['oscar.apps.basket.middleware.BasketMiddleware']\n"
        "TEMPLATES[0]['OPTIONS']['context_processors'] += %r\n"
        % (["oscar.apps." + name for name in processors] + ["oscar.core.context_processors.metadata"]),
        "a",
    )
    site.write(
        "shop/urls.py",
        "from django.apps import apps\nfrom django.urls import include, path\n"
        "from django.contrib import admin\n"
        "urlpatterns = [path('i18n/', include('django.conf.urls.i18n')), "
        "path('admin/', admin.site.urls), path('', include(apps.get_app_config('oscar').urls[0]))]\n",
    )
    site.run("python", "manage.py", "migrate", "-v0")
    return "shop.wsgi"


def dash(site):
    site.write(
        "site_app.py",
        "from dash import Dash, html, dcc\nimport plotly.express as px\n"
        "dash_app = Dash(__name__)\nfigure = px.scatter(x=[1, 2], y=[3, 4])\n"
        "dash_app.layout = html.Div([dcc.Graph(figure=figure)])\napplication = dash_app.server\n",
    )
    return "site_app"


def mlflow(site):
    site.env = {
        "MLFLOW_TRACKING_URI": "sqlite:///%s/ml.db" % site.dir,
        "_MLFLOW_SERVER_FILE_STORE": str(site.dir / "runs"),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(site.dir / "artifacts"),
    }
    return "mlflow.server:app"


def trac(site):
    site.env = {"TRAC_ENV": str(site.dir / "trac")}
    site.run("trac-admin", "trac", "initenv", "project", "sqlite:db/trac.db")
    return "trac.web.main:dispatch_request"


def pgadmin(site):
    package = next(site.venv.glob("lib/python*/site-packages/pgadmin4"))
    lines = ["DATA_DIR = %r" % str(site.dir), "SERVER_MODE = True"]
    for name, file in [("LOG_FILE", "log"), ("SQLITE_PATH", "db"), ("SESSION_DB_PATH", "sessions"),
                       ("STORAGE_DIR", "storage")]:
        lines.append("%s = %r" % (name, str(site.dir / file)))
    (package / "config_local.py").write_text("\n".join(lines) + "\n")
    site.env = {
        "PGADMIN_SETUP_EMAIL": "somebody@example.org",
        "PGADMIN_SETUP_PASSWORD": "not a secret",
        "PYTHONPATH": str(package),
    }
    site.run("python", "setup.py", "setup-db", cwd=package)
    return "pgAdmin4:app"


def radicale(site):
    storage = site.dir / "collections"
    text = "[storage]\nfilesystem_folder = %s\n[auth]\ntype = none\n" % storage
    site.env = {"RADICALE_CONFIG": str(site.write("config", text))}
    return "radicale"


def celery(site):
    return flask(
        site,
        "from celery import Celery\n"
        "celery = Celery('tasks', broker='redis://127.0.0.1:1/0', backend='redis://127.0.0.1:1/1')\n"
        "@celery.task\ndef add(a, b):\n    return a + b\n",
    )


def prometheus(site):
    metrics = site.dir / "metrics"
    metrics.mkdir(exist_ok=True)
    site.env = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    return flask(
        site,
        "import prometheus_client\nprometheus_client.Counter('requests', 'Requests.').inc()\n"
        "prometheus_client.Gauge('load', 'Load.', multiprocess_mode='livesum').set(1)\n",
    )


def numeric(site):
    return flask(site, "import numpy, pandas, scipy.linalg, sklearn.linear_model\n")


# Name, what is installed, what makes the site, whether it is imported once.
SITES = [
    ("flask", ["flask"], flask, True),
    ("django-admin", ["django"], django, True),
    ("wagtail", ["wagtail"], wagtail, True),
    ("oscar", ["django-oscar", "sorl-thumbnail", "Pillow"], oscar, True),
    ("dash", ["dash", "numpy", "pandas"], dash, True),
    ("mlflow", ["mlflow"], mlflow, True),
    ("trac", ["Trac", "setuptools<70"], trac, True),
    ("pgadmin", ["pgadmin4"], pgadmin, False),
    ("radicale", ["radicale"], radicale, True),
    ("celery-producer", ["celery", "redis", "flask"], celery, True),
    ("prometheus", ["prometheus_client", "flask"], prometheus, True),
    ("numeric", ["numpy", "pandas", "scipy", "scikit-learn", "flask"], numeric, True),
]


def install(venv, packages):
    done = venv / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(pip, check=True)
        done.touch()


def serve(binary, site, app):
    """The line about preloading, and the statuses of four requests."""
    command = [str(binary), "--bind", "127.0.0.1:0", "--workers", "2", "--log-format", "pretty"]
    command += ["--venv", str(site.venv), "--chdir", str(site.dir), "--app", app]
    env = dict(os.environ, PYSERVE_CONTROL=str(site.dir / "control"), **site.env)
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=site.dir)
        try:
            text, until = "", time.monotonic() + DEADLINE
            while "ready in" not in text and server.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
                log.seek(0)
                text = log.read()
            line = re.search(r"^ *preload +(.*)", text, re.MULTILINE)
            port = re.search(r"http://127\.0\.0\.1:(\d+)", text)
            if not line or not port:
                return text[-500:], []
            return line[1], [ask(port[1]) for _ in range(4)]
        finally:
            server.terminate()
            server.wait()


def ask(port):
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    try:
        opener = urllib.request.build_opener(Stay)
        return opener.open("http://127.0.0.1:%s/" % port, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "pyserve-verdicts")
    parser.add_argument("--binary", type=Path, default=TOP / "target/release/pyserve")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    is_wrong = False
    for name, packages, make, is_once in SITES:
        if arguments.names and name not in arguments.names:
            continue
        venv = arguments.dir.resolve() / name / "venv"
        install(venv, packages)
        with tempfile.TemporaryDirectory(prefix="pyserve-site-") as directory:
            site = Site(Path(directory), venv)
            line, statuses = serve(arguments.binary, site, make(site))
        is_right = line.startswith("yes" if is_once else "no") and statuses
        is_right = is_right and all(status < 500 for status in statuses)
        is_wrong |= not is_right
        print("%-16s %s %s %s" % (name, "ok   " if is_right else "WRONG", line, statuses), flush=True)
    sys.exit(1 if is_wrong else 0)


if __name__ == "__main__":
    main()
