keepalive = 5
max_requests = 400
