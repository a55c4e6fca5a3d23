"""Takes 200 ms at ``/long``, waits for the test at ``/held``, and answers at once elsewhere."""

import time

import probe


def application(environ, start_response):
    place = environ["PATH_INFO"]
    probe.note("called " + place)
    if place.startswith("/long"):
        time.sleep(0.2)
    elif place == "/held":
        probe.wait(place)
    return probe.plain(start_response, place)
