bind = "0.0.0.0:8000"


def post_fork(server, worker):
    pass


def when_ready(server):
    pass
