"""An application made by a factory, and one that is called neither of the usual names."""

import hello


def create_app():
    return hello.application


other = hello.application
