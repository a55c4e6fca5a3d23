"""A generator that calls start_response when it is first asked for a piece."""


def application(environ, start_response):
    start_response("202 Late", [("Content-Type", "text/plain"), ("X-Late", "yes")])
    yield b"late"
