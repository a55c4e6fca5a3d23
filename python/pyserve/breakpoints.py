"""`breakpoint()` in an application: a prompt where a person can answer it, else a clear error.

With `--dev` in the foreground of a terminal the only thread of the only worker takes the
terminal for as long as pdb waits for a command: its process group becomes the foreground one, so
that Ctrl-C reaches the prompt and not the server. Between two commands the terminal is
pyserve's again. After a reload, a process of the new generation waits until the terminal is free.

The host runs `install` before the import, in every mode: nothing is imported here that a
process without a prompt does not need. A PYTHONBREAKPOINT that names something else keeps
its meaning.
"""

import os
import sys

TERMINAL = "/dev/tty"
PDB = "pdb.set_trace"
# Seconds between two looks at a terminal that another process has.
LOOK = 0.1
# Ctrl-Z would stop the worker while the shell waits for pyserve, which goes on; reading or
# setting the terminal from the background fails instead of stopping the process.
IGNORED = ("SIGTSTP", "SIGTTIN", "SIGTTOU")


class Settings:
    """What the host says."""

    is_dev = False
    # There is one worker with one thread.
    is_alone = False
    # The process group of pyserve, where it has a terminal.
    group = 0
    # Called with True before pdb waits for a command, and with False behind it.
    waiting = None
    # Called when signals of the terminal have their default actions again.
    pass_over_signals = None


debugger = None


def install(is_dev, is_alone, group, pass_over_signals):
    Settings.is_dev, Settings.is_alone, Settings.group = is_dev, is_alone, group
    Settings.pass_over_signals = pass_over_signals
    if os.environ.get("PYTHONBREAKPOINT") not in (None, "", PDB):
        return
    if sys.breakpointhook is sys.__breakpointhook__:
        sys.breakpointhook = hook
    if is_dev:
        import pdb

        pdb.set_trace = hook
        pdb.post_mortem = post_mortem_with(pdb.post_mortem)


def post_mortem_with(original):
    """`pdb.post_mortem` with our debugger in place of the one that it makes."""
    # From 3.13 on pdb walks along a chain of exceptions.
    part = 1 if sys.version_info >= (3, 13) else 2

    def post_mortem(t=None):
        check("pdb.post_mortem()", sys._getframe(1))
        subject = sys.exc_info()[part] if t is None else t
        if subject is None:
            # It raises an error.
            return original()
        debugger = current()
        debugger.reset()
        debugger.interaction(None, subject)

    return post_mortem


def hook(*arguments, **named):
    chosen = os.environ.get("PYTHONBREAKPOINT")
    if chosen and chosen != PDB:
        return sys.__breakpointhook__(*arguments, **named)
    frame = sys._getframe(1)
    check("breakpoint()", frame)
    debugger = current()
    if named.get("header") is not None:
        debugger.message(named["header"])
    return debugger.set_trace(frame)


def current():
    """The debugger of this process."""
    global debugger
    if debugger is None or debugger.process != os.getpid():
        debugger = make()
    return debugger


def check(call, frame):
    """Raises an error that names the line in `frame` if there can be no prompt."""
    reason = why_not()
    if reason:
        raise RuntimeError(
            "%s at %s:%d: %s (PYTHONBREAKPOINT=0 ignores breakpoints)"
            % (call, frame.f_code.co_filename, frame.f_lineno, reason)
        )


def why_not():
    """Why there can be no prompt, and what to do; None if there can be one."""
    if not Settings.is_dev:
        return "there is no terminal to debug on; run `pyserve --dev` in a terminal, or remove the call"
    if not Settings.group:
        return "pyserve has no terminal on standard input; run it in one, without redirecting its input"
    if not Settings.is_alone:
        return "several workers or threads cannot share the terminal; use --workers 1 --threads 1"
    import threading

    if threading.current_thread() is not threading.main_thread():
        return "only the main thread can use the terminal, and this is thread %s" % (
            threading.current_thread().name
        )
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return "cannot open the terminal: %s; run `pyserve --dev` in one" % error
    try:
        if owner_at_end_of_other_prompts(terminal) != Settings.group:
            return "pyserve is not in the foreground of its terminal; bring it there with `fg`"
    except OSError as error:
        return "cannot use the terminal: %s; run `pyserve --dev` in one" % error
    finally:
        os.close(terminal)


def owner_at_end_of_other_prompts(terminal):
    """The foreground process group, once that is none of another process that pyserve started."""
    owner = os.tcgetpgrp(terminal)
    if owner == Settings.group or not is_sibling(owner):
        return owner
    import time

    with Waiting():
        while owner != Settings.group and is_sibling(owner):
            time.sleep(LOOK)
            owner = os.tcgetpgrp(terminal)
    return owner


def is_sibling(group):
    """The leaders of its process group and of ours, the templates, have the same parent."""
    return group != os.getpgrp() and parent(group) == parent(os.getpgrp()) != None


def parent(process):
    try:
        with open("/proc/%d/stat" % process, "rb") as stat:
            # proc_pid_stat(5): the name, in parentheses, may contain anything.
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def make():
    import pdb

    class Debugger(pdb.Pdb):
        def __init__(self):
            self.process = os.getpid()
            self.reader = open(TERMINAL, "r", errors="replace")
            self.writer = open(TERMINAL, "w", errors="replace")
            # With a file, pdb reads lines from it instead of calling input().
            super().__init__(stdin=self.reader, stdout=self.writer, nosigint=True)

        def interaction(self, *arguments, **named):
            terminal = self.reader.fileno()
            try:
                before = owner_at_end_of_other_prompts(terminal)
            except OSError:
                before = None
            if before != Settings.group:
                # Suspended or sent to the background meanwhile.
                return self.set_continue()
            with Foreground(terminal, before):
                while True:
                    try:
                        return super().interaction(*arguments, **named)
                    except KeyboardInterrupt:
                        # It came before the prompt, where pdb does not expect it.
                        self.message("--KeyboardInterrupt--")

        def message(self, *arguments):
            super().message(*arguments)
            self.writer.flush()

    return Debugger()


class Waiting:
    """The request waits for a person, and no deadline strikes."""

    def __enter__(self):
        if Settings.waiting is not None:
            Settings.waiting(True)

    def __exit__(self, *_):
        if Settings.waiting is not None:
            Settings.waiting(False)


class Foreground(Waiting):
    """The terminal is this process's."""

    def __init__(self, terminal, before):
        self.terminal = terminal
        self.before = before
        self.actions = []

    def __enter__(self):
        import signal

        for name in IGNORED:
            number = getattr(signal, name)
            self.actions.append((number, signal.signal(number, signal.SIG_IGN)))
        self.actions.append((signal.SIGINT, signal.getsignal(signal.SIGINT)))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        super().__enter__()
        os.tcsetpgrp(self.terminal, os.getpgrp())

    def __exit__(self, *_):
        try:
            os.tcsetpgrp(self.terminal, self.before)
        except OSError:
            # The terminal, or pyserve, has gone.
            pass
        super().__exit__()
        import signal

        for number, action in reversed(self.actions):
            # None: set by something that is not Python.
            if action is not None:
                signal.signal(number, action)
        Settings.pass_over_signals()
