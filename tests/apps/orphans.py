"""``/orphans`` leaves twenty processes behind whose parent has gone; ``/zombies`` counts those
that nobody has waited for.
"""

import os

import probe


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/orphans":
        child = os.fork()
        if child == 0:
            for _ in range(20):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.waitpid(child, 0)
    if path == "/zombies":
        return probe.plain(start_response, str(zombies()))
    return probe.plain(start_response, "done")


def zombies():
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as stat:
                count += stat.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            pass
    return count
