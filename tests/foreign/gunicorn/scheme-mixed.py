bind = "unix:/run/site.sock"
secure_scheme_headers = {"X-Forwarded-Proto": "https", "X-FORWARDED-SSL": "on"}
accesslog = None
logconfig_dict = {"version": 1, "formatters": {"generic": {"format": "%(message)s"}}}
access_log_format = "%(t)s %(T)s %(L).3f %(q)s %({x-request-id}i)s"
errorlog = None
