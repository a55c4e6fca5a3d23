"""Records facts during the import of the application that cannot be found out later.

The template executes this file before it imports the application: functions registered with
`atexit`, and random generators without a chosen seed, which each worker seeds anew. It also stops
everything that an import has started, in a template that will not fork.
"""

import atexit
import os
import sys
import weakref

# A seed drawn from the operating system has 128 bits; shorter ones were chosen by hand.
CHOSEN_SEED_BITS = 64

_exits = []
_unseeded = {}
_numpy_states = []
_numpy_sequences = []
#: Buffered readers of a device of the kernel's random numbers.
_random_readers = []
_restore = []


def watch():
    """Records exit functions and unseeded random generators from now on."""
    if _restore:
        return
    register, unregister = atexit.register, atexit.unregister

    def remembering(func, *args, **kwargs):
        registered = register(func, *args, **kwargs)
        _exits.append((func, args))
        return registered

    def forgetting(func):
        _exits[:] = [exit for exit in _exits if exit[0] != func]
        return unregister(func)

    for name, function in (("register", remembering), ("unregister", forgetting)):
        function.__name__ = name
        function.__doc__ = getattr(atexit, name).__doc__
        _replace(atexit, name, function)
    if "random" in sys.modules:
        _watch_seeds(sys.modules["random"])
    else:
        finder = _RandomFinder()
        sys.meta_path.insert(0, finder)
        _restore.append(finder.leave)


def unwatch():
    while _restore:
        _restore.pop()()


def _replace(owner, name, replacement):
    original = getattr(owner, name)

    def restore():
        # A replacement by other code stays.
        if owner.__dict__.get(name) is replacement:
            setattr(owner, name, original)

    setattr(owner, name, replacement)
    _restore.append(restore)


class _RandomFinder:
    """Watches the module `random` once it is imported, without importing it."""

    def leave(self):
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        if name != "random":
            return None
        self.leave()
        from importlib.util import find_spec

        spec = find_spec(name)
        loader = spec and spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):
            return spec

        def exec_module(module):
            del loader.exec_module
            execute(module)
            _watch_seeds(module)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass
        return spec


def _watch_seeds(module):
    try:
        base = module.Random
        seed, setstate = base.seed, base.setstate
    except AttributeError:
        # A module of the application with this name.
        return

    def remembering(self, a=None, *args, **kwargs):
        seed(self, a, *args, **kwargs)
        _remember(self, a is None)

    def copying(self, state):
        # A copy of an unseeded generator produces the same numbers.
        is_unseeded = any(state == other.getstate() for other in _live_unseeded(self))
        setstate(self, state)
        _remember(self, is_unseeded)

    for name, function in (("seed", remembering), ("setstate", copying)):
        function.__name__ = name
        function.__qualname__ = "Random." + name
        function.__doc__ = getattr(base, name).__doc__
        _replace(base, name, function)


def _remember(generator, is_unseeded):
    key = id(generator)
    if not is_unseeded:
        _unseeded.pop(key, None)
        return
    try:
        _unseeded[key] = weakref.ref(generator, lambda _: _unseeded.pop(key, None))
    except TypeError:
        pass


def _live_unseeded(excluded=None):
    generators = [reference() for reference in list(_unseeded.values())]
    return [one for one in generators if one is not None and one is not excluded]


_RANDOM_DEVICES = ("/dev/random", "/dev/urandom")


def _discard(reader):
    """Empties the buffer of a reader. The device ignores the offset."""
    reader.seek(0, os.SEEK_END)


def _look_at_numpy(instances, found):
    # Others cannot be seeded again; their generator is in the second list.
    for state in instances.get("numpy.random.mtrand.RandomState", ()):
        bits = state._bit_generator
        if type(bits).__name__ == "MT19937" and _is_unseeded(_sequence(bits)):
            _numpy_states.append(state)
    owned = set()
    for bits in instances.get("numpy.random.bit_generator.BitGenerator", ()):
        owned.add(id(_sequence(bits)))
        if _is_unseeded(_sequence(bits)):
            _numpy_states.append(bits)
    for sequence in instances.get("numpy.random.bit_generator.SeedSequence", ()):
        if not _is_unseeded(sequence):
            continue
        if _draws_anew(sequence):
            _numpy_sequences.append(sequence)
        elif id(sequence) not in owned:
            found.add("numpy.random.SeedSequence without a chosen seed")


def _sequence(bits):
    return getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)


def _draws_anew(sequence):
    """True if this release of numpy can replace the entropy of a sequence."""
    try:
        trial = type(sequence)(1)
        _draw_anew(trial)
        return trial.entropy != 1
    except Exception:
        return False


def _draw_anew(sequence):
    # As `pickle` would restore a new one.
    reduced = type(sequence)(pool_size=sequence.pool_size).__reduce__()
    sequence.__setstate_cython__(reduced[2] if len(reduced) > 2 else reduced[1][2])


def _is_unseeded(sequence):
    entropy = getattr(sequence, "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > CHOSEN_SEED_BITS


def reseed():
    """Runs in a new worker: generators without a chosen seed differ from those of the others.

    CPython does so for the functions of `random` itself.
    """
    for generator in _live_unseeded():
        sys.modules["random"].Random.seed(generator)
    for reader in _random_readers:
        _attempt(_discard, reader)
    for sequence in _numpy_sequences:
        _attempt(_draw_anew, sequence)
    for state in _numpy_states:
        _attempt(_seed_anew, state)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "seed"):
        # Another generator of `set_bit_generator` has no such function.
        _attempt(numpy.seed)


def _seed_anew(state):
    if hasattr(state, "seed"):
        state.seed()
    else:
        state.state = type(state)().state


def _attempt(function, *args):
    # One that is closed, or that refuses, does not keep the others from differing.
    try:
        function(*args)
    except Exception:
        pass


def end():
    """Stops everything that the application started, as at the exit of the interpreter."""
    threading = sys.modules.get("threading")
    for function in reversed(list(getattr(threading, "_threading_atexits", ()))):
        try:
            function()
        except Exception:
            pass
    atexit._run_exitfuncs()
    # The tracker of named semaphores and shared memory removes the remaining ones, and exits, when
    # the last writer has closed its pipe.
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    fd = getattr(tracker, "_fd", None)
    if isinstance(fd, int):
        tracker._fd = None
        os.close(fd)
