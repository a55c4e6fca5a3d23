"""Counts with Prometheus' own library in its mode for several processes."""

import probe
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

requests = Counter("requests", "Requests.")
requests.inc(0)


def application(environ, start_response):
    if environ["PATH_INFO"] != "/metrics":
        requests.inc()
        return probe.plain(start_response, environ["QUERY_STRING"])
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return probe.plain(start_response, generate_latest(registry))
