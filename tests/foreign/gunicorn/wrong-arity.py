workers = 2


def post_fork(worker):
    pass
