bind = "127.0.0.1:8000"
secure_scheme_headers = {
    "X-FORWARDED-PROTO": "https",
    "CLOUDFRONT-FORWARDED-PROTO": "https",
}
accesslog = "/var/log/site/access.log"
logconfig_dict = {"version": 1, "loggers": {"gunicorn.error": {"level": "INFO"}}}
