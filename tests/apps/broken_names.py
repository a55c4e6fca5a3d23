"""Has no callable of the usual names, but one nearby and a factory."""

import hello

aplication = hello.application


def create_app():
    return hello.application
