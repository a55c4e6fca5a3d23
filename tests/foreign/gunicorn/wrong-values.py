workers = "four"
threads = -1
bind = "0.0.0.0:http"
preload_app = 1
raw_env = ["NOVALUE"]
timeout = 2.5
wsgi_app = 7
