"""The application of docker/test-images.sh."""

import os


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%s %s" % (os.getuid(), os.getpid())).encode()]
