"""A zygote: imports what its children need, then forks one for each order of the warden; and what is done ahead of a function.

The forking itself is native (`native/forker.rs`): a child is confined before a line of Python runs in it. Here is what comes before,
once, and what comes after in every child: nothing random may be the same in two of them.
"""

import gc
import os
import sys

CHANNEL = 4
# What libraries ask how many threads to start when they are loaded. A fork copies one, so they may start none.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")


def become(connection, head, guest):
    """Imports and forks; returns in each child, never in the zygote itself."""
    os.set_inheritable(CHANNEL, False)
    sys.path[:0] = [p for p in head.get("path", ()) if p not in sys.path]
    os.environ.update(dict.fromkeys(THREADS, "1"))
    for name in head.get("imports", ()):
        __import__(name)
    for name in THREADS:
        os.environ.pop(name, None)
    compile_all(guest)
    warm(guest)
    forker = guest.native()
    # What is alive now lives in every child; a collector that looks at it would copy its pages.
    gc.collect()
    gc.freeze()
    connection.send(guest.BOUND, guest.END, 0, guest.sectioned({"kind": "zygote"}, b""))
    if forker.serve(CHANNEL) < 0:
        os._exit(0)
    connection.restart()
    reseed()
    forget()


def forget():
    """A function's process has no use for this module, and one that starts anew never had it."""
    del sys.modules[__name__]


def compile_all(guest):
    """So that no child of a zygote has to."""
    for file in os.listdir(guest.HERE):
        name, dot, extension = file.partition(".")
        if extension == "py":
            guest.compiled[name] = guest.compile_file(name)


def nowhere(guest):
    """A connection for the answers of a rehearsal."""

    class Nowhere(guest.Connection):
        def send(self, kind, flags, call, payload):
            guest.FRAME.pack(len(payload), kind, flags, guest.microseconds(self.began), call) + payload

    return Nowhere(-1)


def warm(guest):
    """Binds and calls a function that answers its event, and forgets it. What the first time takes is then done, and in a child of a
    zygote the memory that is written to by it is the child's own."""
    head = {"entry": "_ol_warm.py", "environment": {}, "site_packages": False, "window": 0, "tag": False}
    path = sys.path[:]
    try:
        for keep, flags in ((b"def f(event):\n    return event\n", 0), (None, guest.COMPILED)):
            kind, handler, compiled = guest.bind(guest.sectioned(head, keep or compiled), flags)
            guest.sectioned({"kind": kind}, compiled)
            guest.answer(nowhere(guest), handler, 0, b'{"a": [1, "b", null, 0.5]}')
            del sys.modules["_ol_warm"]
    finally:
        sys.path[:] = path


def reseed():
    """Gives this process randomness of its own, in whatever the zygote had imported. What asks the kernel each time needs nothing."""
    modules = sys.modules
    if "random" in modules:
        modules["random"].seed()
    if "_ssl" in modules:
        modules["_ssl"].RAND_add(os.urandom(48), 48.0)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = modules["tempfile"].tempdir = None
    if "uuid" in modules:
        modules["uuid"]._node = modules["uuid"]._last_timestamp = None
    numpy = modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
