"""Tells the limit on descriptors that it runs under."""

import json
import resource

import probe


def application(environ, start_response):
    return probe.plain(start_response, json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
