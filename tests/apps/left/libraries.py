"""Clients as applications make them when they are imported: they connect when they are used."""

import probe
import redis
import requests
import statsd
from flask import Flask

session = requests.Session()
database = redis.Redis(port=1)
metrics = statsd.StatsClient("127.0.0.1", 9)
application = Flask(__name__)


@application.get("/")
def index():
    metrics.incr("index")
    return "%s" % probe.__name__
