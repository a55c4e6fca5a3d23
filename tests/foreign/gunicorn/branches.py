import os

workers = 2
debug = os.environ.get("SURELY_NOT_SET_DEBUG") == "1"
if debug:
    reload = True
    workers = 1
    loglevel = "debug"
else:
    workers = 3
    loglevel = "error"
try:
    import surely_no_such_module
    threads = surely_no_such_module.THREADS
except ImportError:
    threads = 2
workers += 1
