# A site behind nginx on the same machine.
bind = "127.0.0.1:8001"
workers = 3
timeout = 60
accesslog = "/var/log/mysite/access.log"
errorlog = "/var/log/mysite/error.log"
loglevel = "info"
