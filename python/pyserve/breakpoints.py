"""`breakpoint()` in an application: a prompt where a person can answer it, else a clear error.

With `--dev` in the foreground of a terminal the only thread of the only worker takes the
terminal for as long as pdb waits for a command: its process group becomes the foreground one, so
that Ctrl-C reaches the prompt and not the server. Between two commands the terminal is
pyserve's again.

The host runs `install` before the import. A PYTHONBREAKPOINT that names something else keeps
its meaning.
"""

import os
import signal
import sys
import threading

TERMINAL = "/dev/tty"
PDB = "pdb.set_trace"
# Ctrl-Z would stop the worker while the shell waits for pyserve, which goes on; reading or
# setting the terminal from the background fails instead of stopping the process.
IGNORED = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


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


def hook(*arguments, **named):
    chosen = os.environ.get("PYTHONBREAKPOINT")
    if chosen and chosen != PDB:
        return sys.__breakpointhook__(*arguments, **named)
    frame = sys._getframe(1)
    reason = why_not()
    if reason:
        raise RuntimeError(
            "breakpoint() at %s:%d: %s (PYTHONBREAKPOINT=0 ignores breakpoints)"
            % (frame.f_code.co_filename, frame.f_lineno, reason)
        )
    global debugger
    if debugger is None or debugger.process != os.getpid():
        debugger = make()
    if named.get("header") is not None:
        debugger.message(named["header"])
    return debugger.set_trace(frame)


def why_not():
    """Why there can be no prompt, and what to do; None if there can be one."""
    if not Settings.is_dev:
        return "there is no terminal to debug on; run `pyserve --dev` in a terminal, or remove the call"
    if not Settings.group:
        return "pyserve has no terminal on standard input; run it in one, without redirecting its input"
    if not Settings.is_alone:
        return "several workers or threads cannot share the terminal; use --workers 1 --threads 1"
    if threading.current_thread() is not threading.main_thread():
        return "only the main thread can use the terminal, and this is thread %s" % (
            threading.current_thread().name
        )
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return "cannot open the terminal: %s; run `pyserve --dev` in one" % error
    try:
        if os.tcgetpgrp(terminal) != Settings.group:
            return "pyserve is not in the foreground of its terminal; bring it there with `fg`"
    except OSError as error:
        return "cannot use the terminal: %s; run `pyserve --dev` in one" % error
    finally:
        os.close(terminal)


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
                before = os.tcgetpgrp(terminal)
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


class Foreground:
    """The terminal is this process's."""

    def __init__(self, terminal, before):
        self.terminal = terminal
        self.before = before
        self.actions = []

    def __enter__(self):
        for number in IGNORED:
            self.actions.append((number, signal.signal(number, signal.SIG_IGN)))
        self.actions.append((signal.SIGINT, signal.getsignal(signal.SIGINT)))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if Settings.waiting is not None:
            Settings.waiting(True)
        os.tcsetpgrp(self.terminal, os.getpgrp())

    def __exit__(self, *_):
        try:
            os.tcsetpgrp(self.terminal, self.before)
        except OSError:
            # The terminal, or pyserve, has gone.
            pass
        if Settings.waiting is not None:
            Settings.waiting(False)
        for number, action in reversed(self.actions):
            # None: set by something that is not Python.
            if action is not None:
                signal.signal(number, action)
        Settings.pass_over_signals()
