import multiprocessing

bind = "0.0.0.0:8000"
# The usual formula, with a bound, so that the expected number holds on every machine.
workers = min(multiprocessing.cpu_count() * 2 + 1, 1)
worker_class = "sync"
worker_connections = 1000
timeout = 30
keepalive = 2
