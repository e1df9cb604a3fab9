"""A zygote: imports what its children need, then forks one for each order of the warden.

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
    guest.compile_all()
    guest.warm()
    forker = native()
    # What is alive now lives in every child; a collector that looks at it would copy its pages.
    gc.collect()
    gc.freeze()
    connection.send(guest.BOUND, guest.END, 0, guest.sectioned({"kind": "zygote"}, b""))
    if forker.serve(CHANNEL) < 0:
        os._exit(0)
    connection.restart()
    reseed()


def native():
    machinery = sys.modules["_frozen_importlib_external"]
    path = os.path.dirname(__file__) + "/_ol_forker.so"
    loader = machinery.ExtensionFileLoader("_ol_forker", path)
    spec = machinery.spec_from_file_location("_ol_forker", path, loader=loader)
    return sys.modules["_frozen_importlib"].module_from_spec(spec)


def reseed():
    """Gives this process randomness of its own, in whatever the zygote had imported. What asks the kernel each time needs nothing."""
    modules = sys.modules
    if "random" in modules:
        modules["random"].seed()
    if "_ssl" in modules:
        modules["_ssl"].RAND_add(os.urandom(48), 48.0)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None
    if "uuid" in modules:
        modules["uuid"]._node = modules["uuid"]._last_timestamp = None
    numpy = modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
