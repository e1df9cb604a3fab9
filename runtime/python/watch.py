"""Notices the first thread or process that a function starts: from then on printed lines have to say whose they are (`tagging.py`)."""

import _posixsubprocess  # so that it is there to be watched
import os
import sys

# What starts a thread or a process, by the module that does it and by those that keep it under a name of their own.
STARTERS = (
    ("_thread", "start_new_thread"), ("_thread", "start_new"), ("_thread", "start_joinable_thread"),
    ("threading", "_start_new_thread"), ("threading", "_start_joinable_thread"),
    ("_posixsubprocess", "fork_exec"), ("subprocess", "_fork_exec"),
    ("os", "posix_spawn"), ("os", "posix_spawnp"), ("os", "system"),
)

armed = False  # in a zygote and until there is a function: what the runtime itself starts prints nothing


def arm():
    """There is a function from now on."""
    global armed
    armed = True


def watch(tagged):
    """As long as a function starts nothing, all that is printed during a call is the call's, and no line need say so."""
    for module, name in STARTERS:
        original = getattr(sys.modules.get(module), name, None)
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(sys.modules[module], name, watched(original, tagged))
    os.register_at_fork(before=lambda: armed and tagged().process())


def watched(original, tagged):
    def start(*args, **kwargs):
        return tagged().start(original, args, kwargs) if armed else original(*args, **kwargs)

    start.__name__, start.__doc__, start.__wrapped__ = original.__name__, original.__doc__, original
    return start
