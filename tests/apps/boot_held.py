"""Waits for the test while it is imported."""

import probe

probe.wait("importing")


def application(environ, start_response):
    return probe.plain(start_response, "booted")
