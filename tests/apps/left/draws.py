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
device = open("/dev/urandom", "rb")
device.read(1)
draws = {
    "device": lambda: int.from_bytes(device.read(6), "big"),
    "global": random.random,
    "unseeded": unseeded.random,
    "seeded": seeded.random,
    "dice": dice.random,
    "late": late.random,
    "copy": copy.copy(unseeded).random,
    "seeded copy": copy.deepcopy(seeded).random,
}
if numpy:
    sequence, own = numpy.random.SeedSequence(), numpy.random.default_rng()
    draws["spawned"] = lambda: numpy.random.default_rng(sequence.spawn(1)[0]).random()
    draws["spawned by a generator"] = lambda: own.spawn(1)[0].random()
    draws["chosen sequence"] = numpy.random.default_rng(numpy.random.SeedSequence(42)).random
    if os.environ.get("OTHER_BITS"):
        numpy.random.set_bit_generator(numpy.random.PCG64())
    draws["numpy"] = numpy.random.rand
    draws["generator"] = numpy.random.default_rng().random
    draws["chosen"] = numpy.random.default_rng(42).random
    draws["state"] = numpy.random.RandomState().rand
    draws["normal"] = numpy.random.default_rng().standard_normal


def application(environ, start_response):
    number = draws[environ["QUERY_STRING"].replace("+", " ")]()
    return probe.plain(start_response, "%d %r" % (os.getpid(), float(number)))
