bind = "127.0.0.1:8000"
secure_scheme_headers = {}
forwarded_allow_ips = ""
errorlog = "/dev/stdout"
accesslog = "/dev/stderr"
access_log_format = '{"path": "%(U)s", "query": "%(q)s", "referer": "%(f)s", "seconds": %(L)s, "pid": "%(p)s"}'
