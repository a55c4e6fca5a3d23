"""Calls start_response twice without exc_info; reports what that raised."""


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        start_response("201 Created", [("Content-Type", "text/plain")])
    except Exception as error:
        return [type(error).__name__.encode()]
    return [b"nothing raised"]
