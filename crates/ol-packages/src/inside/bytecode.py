"""Compiles Python files: `python bytecode.py FOLDER < PATHS`, or as a child of who imports it.

A program of its own, so that another Python than the one that installs can run it. What can't be compiled (templates, code of
another Python) stays as it is: importing it says why.
"""

import errno
import importlib.util
import os
import sys
import warnings
from importlib._bootstrap_external import _code_to_hash_pyc

FULL = 28  # the exit status when there is no space


def compile_files(folder, paths):
    warnings.simplefilter("ignore")
    for path in paths:
        place = os.path.join(folder, path)
        with open(place, "rb") as file:
            source = file.read()
        try:
            # The path in it is replaced by the real one when it is imported.
            code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            continue
        target = importlib.util.cache_from_source(place)
        try:
            os.mkdir(os.path.dirname(target))
        except FileExistsError:
            pass
        # uv's files are links into its cache, and what a wheel brought compiled may be one of them.
        if os.path.lexists(target):
            os.remove(target)
        with open(target, "wb") as file:
            file.write(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def status(folder, paths):
    try:
        compile_files(folder, paths)
        return 0
    except OSError as error:
        return FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1


def child(folder, paths):
    """The pid of a process that compiles. A compiler that crashes takes only that one along."""
    pid = os.fork()
    if pid:
        return pid
    end = 1
    try:
        end = status(folder, paths)
    finally:
        os._exit(end)


if __name__ == "__main__":
    sys.exit(status(sys.argv[1], sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")))
