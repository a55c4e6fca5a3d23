"""An application that shows its request and its process, for comparisons of an image before and after a move."""

import json
import os
import sys

# Set by servers, shells and the engine for themselves.
OF_SERVERS = ("UWSGI_", "GUNICORN_", "SUPERVISOR_", "PYSERVE_", "NGINX_", "SERVER_SOFTWARE", "HOSTNAME", "PWD",
              "OLDPWD", "SHLVL", "_", "PORT", "LISTEN_PORT", "STATIC_", "WEB_CONCURRENCY", "LS_COLORS", "INVOCATION_ID")
SHOWN = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT",
         "REMOTE_ADDR", "CONTENT_LENGTH", "CONTENT_TYPE", "REQUEST_URI", "HTTPS", "wsgi.url_scheme", "wsgi.multiprocess",
         "wsgi.multithread", "wsgi.run_once")


def seen(environ):
    umask = os.umask(0o22)
    os.umask(umask)
    request = {name: environ[name] for name in SHOWN if name in environ}
    request.update({name: value for name, value in environ.items() if name.startswith("HTTP_")})
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith(tuple(one for one in OF_SERVERS if one.endswith("_") and one != "_"))
                 and name not in OF_SERVERS}
    return {
        "request": request,
        "body": len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))),
        "variables": variables,
        "user": [os.getuid(), os.getgid(), sorted({*os.getgroups()} - {os.getgid()})],
        "directory": os.getcwd(),
        "umask": umask,
        "argv": os.path.basename(sys.argv[0]) if sys.argv else None,
        "path": [one for one in sys.path if "/python3" not in one],
    }


def application(environ, start_response):
    body = json.dumps(seen(environ), sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


app = application
