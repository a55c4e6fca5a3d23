"""An agent: a thread that answers what is put into its queue."""

import queue
import sys
import threading

sys.agent = queue.Queue()


def work():
    while True:
        text, reply = sys.agent.get()
        reply.put(text)


threading.Thread(target=work, name="agent", daemon=True).start()
