"""Answers through a pool of processes that is made when this is imported."""

from concurrent.futures import ProcessPoolExecutor

import probe

executor = ProcessPoolExecutor(2)


def same(text):
    return text


def application(environ, start_response):
    return probe.plain(start_response, executor.submit(same, environ["QUERY_STRING"]).result(30))
