"""Resolves and installs packages, in sandboxes of their own: one that resolves, or fetches sources, has a proxy to the package index as
its only way out, one that installs has none.

    POST /resolve   requirements            -> JSON {"lock", "words", "python", "platform"}
    POST /fetch     one pinned package      -> JSON {"files"}: its sources and what building them needs, kept in /tmp
    POST /install   one pinned package      -> a plain tar of its files, compiled
    POST /interpreter                       -> a plain tar: about.json (which wheels it can use), seed/ (what uv learns of it)
    any failure                             -> JSON {"code", "words"}, status 422 (507: too large, 504: timeout, 400: bad order)

An order is a JSON object:

    requirements                the text of a requirements file, for /resolve
    pin, hashes                 "NAME==VERSION" and ["sha256:..."] for /fetch and /install
    allow_sdist                 true: packages' own code may run, to build them or to learn their dependencies; false: wheels only
    fetched                     true: build what /fetch kept, offline (the proxy should be closed by now)
    wheels                      a folder of wheels whose hashes were checked, to use instead of the index, offline
    index, extra                URLs; they may hold passwords, which are masked in all words
    proxy, certificates         "http://127.0.0.1:3128", a PEM file
    seed                        a folder with the seed of /interpreter: saves uv from asking it each time. Take it from a
                                sandbox that did nothing else: uv believes it
    uv                          path of the program; null: pip does it, slower
    python                      the interpreter that functions use; this one by default
    seconds, max_bytes, max_files, retries   limits

/install takes wheels, which run nothing. Where there is none ("no-matching-wheel") sources take two steps, since a build runs
their author's program: /fetch brings them and everything that building needs (as wheels), running nothing of theirs; then
the worker closes the proxy and calls /install with "fetched". So no build ever has a network. Only /resolve with allow_sdist
may run such a program while the index can be reached, if sources don't say what they need in any other way.

Compiled files are of the kind "unchecked hash": Python uses them without looking at their source. Compiled files with a
timestamp would be compiled again whenever the unpacked source's time differs, and with a checked hash Python would read every
source again at each import. Packages are read-only, thus the source can't change.
"""

import json
import os
import sys
import sysconfig

from about import interpreter
from files import compile_all, listed, tar, tidy
from installer import ONLY_BINARY, install_wheels, only_binary, pip_resolve, python, run, uv_index
from order import BUILD, FULL, KEPT, OUT, PLACE, Failed, fresh, masked, needed, read, written
from sources import build_requires, download

WORDS = 16000  # the most characters of the installer's output in an answer


def app(environ, start_response):
    order = {}
    try:
        order = read(environ)
        action = {"/resolve": resolve, "/fetch": fetch, "/install": install, "/interpreter": interpreter}.get(environ["PATH_INFO"])
        if action is None or environ["REQUEST_METHOD"] != "POST":
            raise Failed("bad-order", "POST /resolve, /fetch, /install or /interpreter", 400)
        kind, body = action(order)
    except (Failed, OSError) as caught:
        failure = caught
        if not isinstance(caught, Failed):
            failure = Failed("too-large", str(caught), 507) if caught.errno in FULL else Failed("failed", repr(caught))
        words = masked(failure.words.strip(), order)
        if len(words) > WORDS:
            words = words[: WORDS // 2] + "\n[...]\n" + words[-WORDS // 2 :]
        told = json.dumps({"code": failure.code, "words": words}).encode()
        start_response("%d Failed" % failure.status, [("Content-Type", "application/json"), ("Content-Length", str(len(told)))])
        return [told]
    start_response("200 OK", [("Content-Type", kind)])
    return body


def resolve(order):
    fresh(PLACE)
    wanted = written("requirements.in", needed(order, "requirements", str))
    if order.get("uv"):
        command = [order["uv"], "pip", "compile", "--no-config", "--no-header", "--no-annotate", "--generate-hashes",
                   "--python", python(order), "--index-strategy", "unsafe-best-match", wanted]
        command += only_binary(order) + uv_index(order)
        lock, words = run(command, order)
    else:
        lock, words = pip_resolve(order, wanted)
    told = {"lock": lock, "words": masked(words, order), "python": "%d.%d" % sys.version_info[:2],
            "platform": sysconfig.get_platform().replace("-", "_").replace(".", "_")}
    return "application/json", [json.dumps(told).encode()]


def fetch(order):
    """Downloads without running anything: sources, and wheels of what their build needs."""
    pin = needed(order, "pin", str)
    fresh(PLACE)
    os.makedirs(KEPT)
    download(order, pin)
    source = next((name for name in os.listdir(KEPT) if not name.endswith(".whl")), None)
    if source:
        requires = build_requires(os.path.join(KEPT, source))
        if requires:
            wanted = written("build.in", "\n".join(requires))
            install_wheels(order, ["-r", wanted], BUILD)
    return "application/json", [json.dumps({"files": sorted(os.listdir(KEPT))}).encode()]


def install(order):
    pin = needed(order, "pin", str)
    hashes = needed(order, "hashes", list)
    if not hashes:
        raise Failed("bad-order", "%s has no hashes" % pin, 400)
    if not order.get("fetched"):
        fresh(PLACE)
    fresh(OUT)
    wanted = written("pin.txt", pin + "".join(" \\\n    --hash=%s" % one for one in hashes) + "\n")
    rest, kinds = ["--require-hashes", "-r", wanted], ONLY_BINARY
    if order.get("fetched"):
        # Install from the folder that /fetch filled, hence offline.
        order = dict(order, wheels=KEPT)
        if order.get("allow_sdist"):
            rest, kinds = rest + ["--no-build-isolation"], []
    install_wheels(order, rest, OUT, kinds)
    files = tidy(order)
    compile_all(order, files)
    return "application/x-tar", tar(listed(order))
