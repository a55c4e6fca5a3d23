"""Interrupts a request that waits inside a hub of gevent or eventlet.

The host executes this file once greenlets are in use. A thread of a worker runs its requests in its first
greenlet, the *root*. While a request waits, the thread runs the hub, or another greenlet; an exception
raised in the thread would hit those. Instead the hub throws it into the root, as both libraries do for
their timeouts.

`take()` returns True, once, if the marked request still runs; `error()` creates the exception.
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
    """True if the thread of `root` runs another greenlet."""
    return root.gr_frame is not None


def in_handler(root, frame, take, error):
    """Runs in the signal handler, in the thread of `root`. True: raise the exception here."""
    current = greenlet.getcurrent()
    gevent_hub, eventlet_hub = _gevent_hub(), _eventlet_hub()
    above = _chain(current)
    if gevent_hub is not None and gevent_hub in above:
        gevent_hub.loop.run_callback(_throw, root, take, error)
        return False
    if eventlet_hub is not None and eventlet_hub.greenlet in above:
        if current is eventlet_hub.greenlet and _polls(frame, eventlet_hub):
            # It propagates from the hub to the root, as KeyboardInterrupt does; the hub starts again.
            return take()
        eventlet_hub.schedule_call_global(0, _throw, root, take, error)
        return False
    # The root, or a greenlet below it.
    return take()


def from_another_thread(root, ident, take, error):
    """Makes the hub of the thread throw. False: it has no hub that another thread can wake."""
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
    """True if a library with hubs is loaded, so that a thread may run other greenlets."""
    return "gevent.hub" in sys.modules or "eventlet.hubs" in sys.modules


def enter():
    """Creates the hub of the calling thread, if threads are patched; imports the modules for requests."""
    import contextvars  # noqa: F401

    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        sys.modules["gevent"].get_hub()
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        sys.modules["eventlet.hubs"].get_hub()


def breaks_processes():
    """True if gevent has patched ``fork`` or ``subprocess``: they then need a child watcher, which only the
    default loop, in the main thread, has."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, ("subprocess", "os")))


def leave():
    """Destroys the hub of the calling thread, which ends."""
    hub = _gevent_hub()
    if hub is not None:
        hub.destroy(True)


def _throw(root, take, error):
    # This request may have ended meanwhile, and another may run.
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
    """True if the hub waits in the kernel in this frame."""
    code = getattr(frame, "f_code", None)
    return (
        code is not None
        and code.co_name in ("do_poll", "wait")
        and frame.f_locals.get("self") is hub
    )
