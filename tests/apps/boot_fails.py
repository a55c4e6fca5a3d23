"""Cannot be imported."""

import a_module_that_is_not_there  # noqa: F401


def application(environ, start_response):
    raise AssertionError("never called")
