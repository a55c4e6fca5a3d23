import logging

bind = "0.0.0.0:8000"


def on_starting(server):
    logging.info("starting")


def when_ready(server):
    open("/tmp/app-initialized", "w").close()


def pre_fork(server, worker):
    pass


def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)


def worker_int(worker):
    worker.log.info("worker received INT or QUIT signal")


def worker_exit(server, worker):
    server.log.info("Worker exited")


def child_exit(server, worker):
    pass


def on_exit(server):
    server.log.info("bye")


def pre_request(worker, req):
    worker.log.debug("%s %s", req.method, req.path)

