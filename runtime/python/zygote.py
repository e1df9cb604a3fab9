"""A zygote: imports what its children need, then forks a child for each order of the warden.

The fork itself is native (`native/forker.rs`), since a child must be confined before a line of Python runs in it. This file holds
what is done once before, and what is done afterwards in every child: nothing random may be the same in two of them. `warm` also
serves processes that wait for a function without being zygotes.
"""

import gc
import os
import sys

CHANNEL = 4
# Variables that tell libraries how many threads to start when they are loaded. A fork copies only one thread, so they must start
# none.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")

# What a rehearsal binds and calls. Much of what functions are made of occurs in it, so that the parts of Python that compile and run
# such code have been used once.
REHEARSAL = b'''
import os
import json

NAME = "warm"
TABLE = {"a": 1, "b": [2, 3.5]}


def g(value=None, **others):
    return value


def f(event):
    event["name"] = NAME
    for key, value in TABLE.items():
        if key not in event and value:
            event[key] = f"{value}"
    try:
        return json.loads("[")
    except ValueError:
        return {"thing": g(len(event) + 1), **event}
'''


def become(connection, head, guest):
    """Makes this process a zygote: imports, then forks. Returns in each child, never in the zygote itself."""
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
    # All objects that exist now exist in every child; a garbage collector that visits them there would copy their pages.
    gc.collect()
    gc.freeze()
    connection.send(guest.BOUND, guest.END, 0, guest.sectioned({"kind": "zygote"}, b""))
    if forker.serve(CHANNEL) < 0:
        os._exit(0)
    connection.restart()
    reseed()
    forget()


def forget():
    """Removes this module: a function's process doesn't need it, and one that is started anew never has it."""
    del sys.modules[__name__]


def compile_all(guest):
    """Compiles the runtime's files, so that no child of a zygote has to."""
    for file in os.listdir(guest.HERE):
        name, dot, extension = file.partition(".")
        if extension == "py":
            guest.compiled[name] = guest.compile_file(name)


def nowhere(guest):
    """A connection that encodes the frames of a rehearsal and sends them nowhere.

    It has no class of its own: classes live until a collection, and a function would see this one.
    """

    def send(kind, flags, call, payload):
        guest.FRAME.pack(len(payload), kind, flags, guest.microseconds(0), call) + payload

    connection = guest.Connection(-1)
    connection.send = send
    return connection


def warm(guest):
    """Binds and calls REHEARSAL, from source and compiled, and forgets it.

    The work that only a first call causes is then done. In a child of a zygote, the pages that such a call writes to are then the
    child's own already.
    """
    head = {"entry": "_ol_warm.py", "environment": {}, "site_packages": False, "window": 0, "tag": False}
    path = sys.path[:]
    try:
        for keep, flags in ((REHEARSAL, 0), (None, guest.COMPILED)):
            kind, handler, compiled = guest.bind(guest.sectioned(head, keep or compiled), flags)
            guest.sectioned({"kind": kind}, compiled)
            guest.answer(nowhere(guest), handler, 0, b'{"a": [1, "b", null, 0.5]}')
            del sys.modules["_ol_warm"]
    finally:
        sys.path[:] = path


def reseed():
    """Seeds the random generators that the zygote had imported. Those that ask the kernel each time need nothing."""
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
