"""Draws numbers from generators that are made when this is imported; says which with `?`."""

import copy
import os
import random

import probe

try:
    import numpy
except ImportError:
    numpy = None


class Dice(random.Random):
    """A generator of the application's own."""


unseeded, seeded, dice = random.Random(), random.Random(42), Dice()
late = random.Random(1)
late.seed()
draws = {
    "global": random.random,
    "unseeded": unseeded.random,
    "seeded": seeded.random,
    "dice": dice.random,
    "late": late.random,
    "copy": copy.copy(unseeded).random,
    "seeded copy": copy.deepcopy(seeded).random,
}
if numpy:
    draws["numpy"] = numpy.random.rand
    draws["generator"] = numpy.random.default_rng().random
    draws["chosen"] = numpy.random.default_rng(42).random
    draws["state"] = numpy.random.RandomState().rand
    draws["normal"] = numpy.random.default_rng().standard_normal


def application(environ, start_response):
    number = draws[environ["QUERY_STRING"].replace("+", " ")]()
    return probe.plain(start_response, "%d %r" % (os.getpid(), float(number)))
