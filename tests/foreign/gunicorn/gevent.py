bind = ["127.0.0.1:8000", "[::1]:8000"]
worker_class = "gevent"
workers = 4
worker_connections = 2000
timeout = 300
max_requests = 5000
max_requests_jitter = 500
