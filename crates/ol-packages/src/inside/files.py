"""Tidies, compiles and packs what was installed."""

import os
import subprocess
import sys

import bytecode
from installer import environment, python
from order import CHUNK, OUT, Failed, limit


def tidy(order):
    """Removes files that are useless outside this sandbox; returns the Python files."""
    # Scripts name this sandbox's interpreter in their first line, and this folder is on nobody's PATH. Commands that are native
    # programs (like ruff) stay.
    scripts = os.path.join(OUT, "bin")
    if os.path.isdir(scripts):
        for name in os.listdir(scripts):
            path = os.path.join(scripts, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    if file.read(2) == b"#!":
                        os.remove(path)
        if not os.listdir(scripts):
            os.rmdir(scripts)
    # uv's lock file, and notes on when and from where the package was installed, which differ each time.
    for name in os.listdir(OUT):
        if name == ".lock":
            os.remove(os.path.join(OUT, name))
        if name.endswith(".dist-info"):
            for note in ("uv_cache.json", "REQUESTED", "direct_url.json"):
                path = os.path.join(OUT, name, note)
                if os.path.lexists(path):
                    os.remove(path)
    return [path for path, kind in listed(order) if kind == "file" and path.endswith(".py")]


def listed(order):
    """All entries below OUT, sorted, each with its kind; raises Failed if they are too many or too large."""
    entries, size = [], 0

    def look(folder):
        nonlocal size
        for entry in sorted(os.scandir(os.path.join(OUT, folder)), key=lambda entry: entry.name):
            path = os.path.join(folder, entry.name)
            if entry.is_symlink():
                entries.append((path, "link"))
            elif entry.is_dir():
                entries.append((path, "folder"))
                look(path)
            elif entry.is_file():
                entries.append((path, "file"))
                size += entry.stat().st_size
            if len(entries) > limit(order, "max_files"):
                raise Failed("too-large", "more than %d files" % limit(order, "max_files"), 507)
            if size > limit(order, "max_bytes"):
                raise Failed("too-large", "more than %d bytes" % limit(order, "max_bytes"), 507)

    look("")
    return entries


def compile_all(order, files):
    """Compiles in as many processes as there are cores, by the interpreter that will use it: by children of this one if it is
    the same, which saves a start of Python."""
    if not files:
        return
    cores = min(len(os.sched_getaffinity(0)), 1 + len(files) // 50)
    shares = [files[core::cores] for core in range(cores)]
    if os.path.realpath(python(order)) == os.path.realpath(sys.executable):
        children = [bytecode.child(OUT, share) for share in shares]
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    else:
        command = [python(order), "-I", "-S", bytecode.__file__, OUT]
        processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment({})) for _ in shares]
        for process, share in zip(processes, shares):
            process.stdin.write("\n".join(share).encode("utf-8", "surrogateescape"))
            process.stdin.close()
        ends = [process.wait() for process in processes]
    if bytecode.FULL in ends:
        raise Failed("too-large", "no space left for compiled files", 507)
    if any(ends):
        raise Failed("compile-failed", "compiling ended with %s" % ends)


def tar(entries):
    """A plain tar of the entries. The same files give the same tar: sorted, no owner, one fixed time."""
    import tarfile

    for path, kind in entries:
        place = os.path.join(OUT, path)
        entry = tarfile.TarInfo(path)
        entry.mtime = 315532800  # 1980-01-01, the earliest time that a zip can hold
        entry.mode = 0o755
        if kind == "folder":
            entry.type = tarfile.DIRTYPE
        elif kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(place)
        else:
            stat = os.stat(place)
            entry.size = stat.st_size
            entry.mode = 0o755 if stat.st_mode & 0o100 else 0o644
        yield from blocks(entry, place)
    yield bytes(1024)


def blocks(entry, place):
    import tarfile

    head = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if not entry.size:
        yield head
        return
    left, first = entry.size, head
    with open(place, "rb") as file:
        while left:
            part = file.read(min(CHUNK, left))
            if not part:
                raise OSError("%s became shorter while it was read" % entry.name)
            left -= len(part)
            yield first + part + (b"" if left else bytes(-entry.size % 512))
            first = b""
