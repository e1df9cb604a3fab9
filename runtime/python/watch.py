"""Notices the first thread or process that a function starts: from then on printed lines must name their call (`tagging.py`)."""

import _posixsubprocess  # must be loaded to be watched
import os
import sys

# The functions that start a thread or a process, in each module that holds them under a name of its own.
STARTERS = (
    ("_thread", "start_new_thread"), ("_thread", "start_new"), ("_thread", "start_joinable_thread"),
    ("threading", "_start_new_thread"), ("threading", "_start_joinable_thread"),
    ("_posixsubprocess", "fork_exec"), ("subprocess", "_fork_exec"),
    ("os", "posix_spawn"), ("os", "posix_spawnp"), ("os", "system"),
)

armed = False  # false until a function is bound: what the runtime itself starts prints nothing


def arm():
    """Begins to watch, since a function is about to be bound."""
    global armed
    armed = True


def watch(tagged):
    """Wraps the functions in STARTERS. As long as a function starts nothing, what is printed during a call is that call's."""
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
