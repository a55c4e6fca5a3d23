"""Interrupts a request that waits inside a hub of gevent or eventlet.

The host runs this once greenlets are in use. A thread of a worker runs its requests in its first
greenlet, the *root*. While a request waits, the thread runs the hub, or another greenlet; an exception
raised in the thread would strike those. It is thrown into the root instead, by the hub, as both
libraries do for their timeouts.

`take()` asks the host whether the request that is meant still runs, and may be true once; `error()`
makes the exception.
"""

import sys

import greenlet


def root():
    """The greenlet in which the calling thread runs its requests."""
    current = greenlet.getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def is_suspended(root):
    """Whether the thread of `root` runs another greenlet at the moment."""
    return root.gr_frame is not None


def in_handler(root, frame, take, error):
    """In the handler of the signal, in the thread of `root`. True: the exception is to be raised here."""
    current = greenlet.getcurrent()
    gevent_hub, eventlet_hub = _gevent_hub(), _eventlet_hub()
    above = _chain(current)
    if gevent_hub is not None and gevent_hub in above:
        gevent_hub.loop.run_callback(_throw, root, take, error)
        return False
    if eventlet_hub is not None and eventlet_hub.greenlet in above:
        if current is eventlet_hub.greenlet and _polls(frame, eventlet_hub):
            # It leaves the hub for the root, as KeyboardInterrupt does; the hub begins anew.
            return take()
        eventlet_hub.schedule_call_global(0, _throw, root, take, error)
        return False
    # The root, or a greenlet that works for it.
    return take()


def from_another_thread(root, ident, take, error):
    """Has the hub of the thread throw. False: it runs no hub that another thread can wake."""
    module = sys.modules.get("gevent.hub")
    run = getattr(getattr(getattr(module, "Hub", None), "run", None), "__code__", None)
    frame = sys._current_frames().get(ident)
    while frame is not None and run is not None:
        if frame.f_code is run:
            loop = frame.f_locals["self"].loop
            loop.run_callback_threadsafe(_throw, root, take, error)
            return True
        frame = frame.f_back
    return False


def has_hubs():
    """Whether a library with hubs is loaded, so that a thread may run greenlets of anybody."""
    return "gevent.hub" in sys.modules or "eventlet.hubs" in sys.modules


def enter():
    """The calling thread gets its hub, if threads are patched; what running requests imports is imported."""
    import contextvars  # noqa: F401

    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        sys.modules["gevent"].get_hub()
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        sys.modules["eventlet.hubs"].get_hub()


def breaks_processes():
    """Whether gevent starts processes, which it can do only in the main thread: ``fork`` and
    ``subprocess`` then need a watcher of children, and only the default loop has those."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, ("subprocess", "os")))


def leave():
    """The calling thread ends: so does its hub."""
    hub = _gevent_hub()
    if hub is not None:
        hub.destroy(True)


def _throw(root, take, error):
    # Another request, or the end of this one, may have come first.
    if is_suspended(root) and take():
        root.throw(error())


def _chain(current):
    above = []
    while current is not None:
        above.append(current)
        current = current.parent
    return above


def _gevent_hub():
    """The hub of the calling thread, if it has one."""
    module = sys.modules.get("gevent._hub_local")
    if_exists = getattr(module, "get_hub_if_exists", None)
    return if_exists() if if_exists is not None else None


def _eventlet_hub():
    module = sys.modules.get("eventlet.hubs")
    return getattr(getattr(module, "_threadlocal", None), "hub", None)


def _polls(frame, hub):
    """Whether the hub waits for the kernel in this frame."""
    code = getattr(frame, "f_code", None)
    return (
        code is not None
        and code.co_name in ("do_poll", "wait")
        and frame.f_locals.get("self") is hub
    )
