bind = "127.0.0.1:8000"
syslog = True
syslog_addr = "unix:///dev/log"
logger_class = "mysite.logs.Logger"
secure_scheme_headers = {
    "X-FORWARDED-PROTOCOL": "ssl",
    "X-FORWARDED-PROTO": "https",
    "X-FORWARDED-SSL": "on",
}
