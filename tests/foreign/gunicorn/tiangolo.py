import json
import multiprocessing
import os

workers_per_core_str = os.getenv("SURELY_NOT_SET_PER_CORE", "1")
use_loglevel = os.getenv("SURELY_NOT_SET_LOG_LEVEL", "info")
host = "0.0.0.0"
port = "80"
use_bind = f"{host}:{port}"
cores = multiprocessing.cpu_count()
default_web_concurrency = float(workers_per_core_str) * cores
web_concurrency = min(max(int(default_web_concurrency), 2), 2)

# Gunicorn config variables
loglevel = use_loglevel
workers = web_concurrency
bind = use_bind
errorlog = "-" or None
worker_tmp_dir = "/dev/shm"
accesslog = "-"
graceful_timeout = int("120")
timeout = int("120")
keepalive = int("5")

# For debugging and testing
log_data = {
    "loglevel": loglevel,
    "workers": workers,
    "bind": bind,
}
print(json.dumps(log_data))
