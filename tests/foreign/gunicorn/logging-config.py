accesslog = "-"
access_log_format = '%({x-forwarded-for}i)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'
errorlog = "-"
loglevel = "warning"
capture_output = True
syslog = True
syslog_addr = "udp://10.0.0.1:514"
logconfig_dict = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
}
logger_class = "gunicorn.glogging.Logger"
