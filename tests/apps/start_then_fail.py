"""Calls start_response, then fails before the first piece of the body."""


class Body:
    def __iter__(self):
        return self

    def __next__(self):
        raise RuntimeError("failed before the first piece")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Early", "1")])
    return Body()
