"""Hooks and facts that pyserve offers to the application.

    import pyserve

    @pyserve.after_fork
    def connect() -> None:
        ...

    @pyserve.before_exit
    def disconnect() -> None:
        ...

All of it is optional. An application that uses it can still be imported under any other server,
where the hooks never run and `worker_id()` is None.

Inside pyserve this module is part of the server and takes precedence over an installed one, so
that it always matches the running server.
"""

from typing import Callable, List, Optional, TypeVar

__all__ = ["RequestTimeout", "__version__", "after_fork", "before_exit", "worker_id"]

#: Version of the running server; "0" outside of one.
__version__: str = "0"


class RequestTimeout(BaseException):
    """Raised inside a request that has exceeded `--request-timeout`.

    Its client has got a response already. Like `KeyboardInterrupt` it is not an `Exception`, so
    that `except Exception` does not catch it; clean up with `finally` and let it propagate. If
    the request continues nevertheless, its worker is killed.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(arguments or ("the request is over its deadline",)))


_Hook = TypeVar("_Hook", bound=Callable[[], object])

_after_fork: List[Callable[[], object]] = []
_before_exit: List[Callable[[], object]] = []
_worker_id: Optional[int] = None


def worker_id() -> Optional[int]:
    """The number of this worker process, from 0.

    A worker that replaces another one may get its number. None during an import before the first
    fork, and outside pyserve.
    """
    return _worker_id


def after_fork(hook: _Hook) -> _Hook:
    """Runs `hook()` in every worker before its first request.

    The application has been imported by then, before the fork or after it, so this is the place
    for resources that processes must not share: connections, threads, random state. Hooks run in
    the order of their registration. One that raises prevents the start of the worker.
    """
    _after_fork.append(hook)
    return hook


def before_exit(hook: _Hook) -> _Hook:
    """Runs `hook()` in every worker that exits normally, after its last request.

    Hooks run in the reverse order of their registration, before those of `atexit`. One that
    raises is logged, and the others still run.
    """
    _before_exit.append(hook)
    return hook
