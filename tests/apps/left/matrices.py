"""Multiplies matrices with the library's threads, and without, and says whether both agree."""

import os

import numpy
import probe

left = numpy.arange(300 * 300).reshape(300, 300) % 7
right = numpy.arange(300 * 300).reshape(300, 300) % 5
# Of integers numpy multiplies without BLAS; these fit into doubles exactly.
expected = left @ right
product = left.astype(float) @ right.astype(float)
assert (product == expected).all()


def application(environ, start_response):
    factor = int(environ["QUERY_STRING"] or 1)
    product = (left * factor).astype(float) @ right.astype(float)
    solved = numpy.linalg.solve(numpy.eye(300) * 2, numpy.ones(300))
    is_right = (product == expected * factor).all() and (solved == 0.5).all()
    return probe.plain(start_response, "%s %d" % (is_right, os.getpid()))
