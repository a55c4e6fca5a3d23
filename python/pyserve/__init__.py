"""What an application can ask of the pyserve that runs it, and tell it.

    import pyserve

    @pyserve.after_fork
    def connect() -> None:
        ...

    @pyserve.before_exit
    def disconnect() -> None:
        ...

Everything here is a convenience: an application needs none of it, and one that uses it
still imports under any other server, where the decorators only remember and
`worker_id()` is None.

Inside pyserve this module comes out of the server itself, ahead of anything installed under
the same name, so that it always belongs to the server that runs.
"""

from typing import Callable, List, Optional, TypeVar

__all__ = ["RequestTimeout", "__version__", "after_fork", "before_exit", "worker_id"]

#: Version of the running server; "0" outside of one.
__version__: str = "0"


class RequestTimeout(BaseException):
    """Raised inside a request that is over its deadline (`--request-timeout`).

    Its client has been answered already. Like `KeyboardInterrupt` it is no `Exception`, so
    that code which catches those does not swallow it; clean up with `finally` and let it
    pass. A request that goes on nevertheless costs its worker.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(arguments or ("the request is over its deadline",)))


_Hook = TypeVar("_Hook", bound=Callable[[], object])

_after_fork: List[Callable[[], object]] = []
_before_exit: List[Callable[[], object]] = []
_worker_id: Optional[int] = None


def worker_id() -> Optional[int]:
    """The number of this worker process, from 0.

    A worker that replaces another one gets its number. None while the application is
    imported ahead of the first fork, and outside pyserve.
    """
    return _worker_id


def after_fork(hook: _Hook) -> _Hook:
    """Runs `hook()` in every worker before its first request.

    The application is imported by then, whether before the fork or after it, so this is
    the place for what a fork must not share: connections, threads, random state. Hooks run
    in the order of their registration. One that raises keeps the worker from starting.
    """
    _after_fork.append(hook)
    return hook


def before_exit(hook: _Hook) -> _Hook:
    """Runs `hook()` in every worker that ends in good order, after its last request.

    Hooks run in the reverse order of their registration, before those of `atexit`. One that
    raises is logged, and the others still run.
    """
    _before_exit.append(hook)
    return hook
