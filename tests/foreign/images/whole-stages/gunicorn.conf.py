workers = 2
threads = 4
accesslog = "-"


def post_fork(server, worker):
    import os

    os.environ["HOOKED"] = "yes"


def when_ready(server):
    open("/tmp/ready", "w").close()
