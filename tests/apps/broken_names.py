"""Has no callable of the usual names, but one nearby and a factory."""

import hello


def aplication(environ, start_response):
    return hello.application(environ, start_response)


def create_app():
    return hello.application
