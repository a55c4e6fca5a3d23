"""No application but a companion, with the signals of Celery's prefork pool.

The main process finishes its task after the first SIGTERM (warm shutdown) and drops it after the
second (cold). Its child, which has the task, dies of any SIGTERM. ``probe.wait("task")`` is the task.
"""

import os
import signal
import sys

import probe

terminated = 0


def terminate(signum, frame):
    global terminated
    terminated += 1
    probe.note("warm shutdown" if terminated == 1 else "cold shutdown")
    if terminated > 1:
        os._exit(1)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "task"
    child = os.fork()
    if child == 0:
        probe.wait(name)
        os._exit(0)
    signal.signal(signal.SIGTERM, terminate)
    probe.note("pid %d has pid %d at work" % (os.getpid(), child))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        probe.note("the task was killed")
    elif not terminated:
        signal.pause()
    probe.note("%s finished" % name)


main()
