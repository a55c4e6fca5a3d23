import os

bind = ":" + os.getenv("SURELY_NOT_SET_PORT", "5000")
workers = int(os.environ.get("SURELY_NOT_SET_WORKERS", 2))
threads = int(os.environ.get("SURELY_NOT_SET_THREADS", "4"))
timeout = int(os.getenv("SURELY_NOT_SET_TIMEOUT", "120"))
reload = bool(os.getenv("SURELY_NOT_SET_RELOAD"))
