"""Never calls start_response."""


def application(environ, start_response):
    return [b"nobody started this"]
