"""The module `uwsgidecorators` of an application under pyserve, with `uwsgi_module = true`."""

import functools
import threading

import uwsgi

postfork_chain = []


def postfork_chain_hook():
    for function in postfork_chain:
        function()


uwsgi.post_fork_hook = postfork_chain_hook


class postfork:
    """Runs the function in every worker, after the fork and before its first request.

    `@postfork`, and `@postfork(1, 2)` or `@postfork(name=value)` with arguments for the function.
    """

    def __init__(self, *arguments, **named):
        self.function = None
        if len(arguments) == 1 and not named and callable(arguments[0]):
            self.function = arguments[0]
            self.arguments, self.named = (), {}
            postfork_chain.append(self)
        else:
            self.arguments, self.named = arguments, named

    def __call__(self, *arguments, **named):
        if self.function is not None:
            return self.function(*(arguments or self.arguments), **(named or self.named))
        self.function = arguments[0]
        postfork_chain.append(self)
        return self.function


def lock(function):
    """Holds lock 0 while the function runs."""

    @functools.wraps(function)
    def locked(*arguments, **named):
        uwsgi.lock()
        try:
            return function(*arguments, **named)
        finally:
            uwsgi.unlock()

    return locked


def thread(function):
    """Runs each call of the function in a thread."""

    @functools.wraps(function)
    def started(*arguments):
        worker = threading.Thread(target=function, args=arguments, daemon=True)
        worker.start()
        return worker

    return started


def _not_here(name, advice):
    def decorator(*arguments, **named):
        raise NotImplementedError(
            "uwsgidecorators.%s is not there under pyserve: %s" % (name, advice)
        )

    decorator.__name__ = decorator.__qualname__ = name
    return decorator


for _names, _advice in (
    (
        "cron timer rbtimer mulecron filemon signal",
        "use a [[companion]] with `schedule` or `every`",
    ),
    (
        "spool spoolforever spoolraw mule mulefunc muleloop mulemsgloop farm_loop farm mule_msg"
        " mule_brain mule_brainloop mule_msg_loop spooler",
        "use a task queue such as Celery in a [[companion]]",
    ),
    ("rpc erlang", "use HTTP, or a queue"),
    ("harakiri", "the limit is `request_timeout`"),
):
    for _name in _names.split():
        globals()[_name] = _not_here(_name, _advice)
