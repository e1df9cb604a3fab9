"""Compiles Python files: `python bytecode.py FOLDER < PATHS`, or in a child process of a program that imports it.

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
            # Python replaces the path in the code by the real one on import.
            code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            continue
        target = importlib.util.cache_from_source(place)
        try:
            os.mkdir(os.path.dirname(target))
        except FileExistsError:
            pass
        # A wheel may contain this compiled file, and uv's files are hard links into its cache: don't write through one.
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
    """Starts a process that compiles; returns its pid. If the compiler crashes, only that process ends."""
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
