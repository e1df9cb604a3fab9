"""Describes the interpreter: which wheels it can use, and what uv finds out by running it."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

from files import listed, tar
from installer import python, run
from order import CACHE, OUT, PLACE, fresh, written

ABOUT, SEED = (os.path.join(OUT, name) for name in ("about.json", "seed"))


def interpreter(order):
    """A plain tar of about.json and, if there is uv, of seed: uv's cache after it ran the interpreter once."""
    fresh(PLACE)
    fresh(OUT)
    with open(ABOUT, "w") as file:
        json.dump({"minor": sys.version_info[1], "abi": abi(), "machine": machine(), "libc": libc()}, file)
    os.mkdir(SEED)
    if order.get("uv"):
        run([order["uv"], "pip", "compile", "--no-config", "--offline", "--python", python(order), written("none.in", "")], order)
        for name in os.listdir(CACHE):
            if name.startswith("interpreter-"):
                shutil.copytree(os.path.join(CACHE, name), os.path.join(SEED, name))
    return "application/x-tar", tar(listed(order))


def abi():
    """As in the names of wheels: cp311, cp313t."""
    known = (sysconfig.get_config_var("SOABI") or "").split("-")
    if sys.implementation.name != "cpython" or len(known) < 2:
        return "none"
    return "cp" + known[1]


def machine():
    return sysconfig.get_platform().split("-", 1)[-1].replace("-", "_").replace(".", "_")


def libc():
    try:
        found = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError):
        found = None
    if found:
        return {"glibc": [int(found.group(1)), int(found.group(2))]}
    # musl reports its version only when its loader, which is also its library, is run.
    for loader in glob.glob("/lib/ld-musl-*"):
        said = subprocess.run([loader], stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
        found = re.search(r"Version (\d+)\.(\d+)", said)
        if found:
            return {"musl": [int(found.group(1)), int(found.group(2))]}
    return None
