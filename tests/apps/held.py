"""Waits at its path until the test lets it go; ``/`` and ``/gone…`` do not wait.

The answer is the number of the process.
"""

import os

import probe


def application(environ, start_response):
    place = environ["PATH_INFO"]
    probe.note("called " + place)
    if place != "/" and not place.startswith("/gone"):
        probe.wait(place)
    return probe.plain(start_response, str(os.getpid()))
