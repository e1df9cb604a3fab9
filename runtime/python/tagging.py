"""Makes each printed line name the call that printed it, where that isn't clear otherwise.

It isn't clear when several calls run at once in one process, or when something that a call started may go on after the call. The
context variable `current` holds the call's number. Tasks inherit it, and so do functions that a task hands to a thread
(`asyncio.to_thread`, anyio). A new thread gets the number of the code that started it, and work for a `ThreadPoolExecutor` the
number of the code that submitted it. A forked process keeps its parent's. What another program prints has no number; `processes`
tells whether such a program may be left. Only whole lines are written, each in one write if it is short enough for the pipe to keep
it in one piece among other writers.
"""

import io
import os
import sys
from _thread import RLock

from _ol_guest import NOBODY, current

WHOLE = 4096  # PIPE_BUF: the most bytes that the kernel writes to a pipe in one piece
LONGEST = 64 * 1024  # an unfinished line that grows past this is written as a line, so that it can't fill the memory

streams = []
started = False  # whether a process was started that may still exist


class TaggedLines(io.BufferedIOBase):
    """A binary stream over `fd`. It keeps an unfinished line for each call, so that calls that print in turns don't mix."""

    def __init__(self, fd, name):
        self.fd, self.name, self.mode = fd, name, "wb"
        self.unfinished = {}
        # Re-entrant, since a finalizer may print while a line is being written.
        self.lock = RLock()
        self.forked = False

    def be_a_child(self):
        """Drops unfinished lines in a process that was just forked, since the parent writes them."""
        self.lock, self.unfinished, self.forked = RLock(), {}, True

    def writable(self):
        return True

    def fileno(self):
        return self.fd

    def isatty(self):
        return False

    def write(self, data):
        data = bytes(data)
        call = current.get()
        with self.lock:
            lines = (self.unfinished.pop(call, b"") + data).split(b"\n")
            rest = lines.pop()
            if len(rest) > LONGEST:
                lines.append(rest)
            elif rest:
                self.unfinished[call] = rest
            self.emit(call, lines)
        return len(data)

    def emit(self, call, lines):
        if call is None:  # a thread that Python didn't start: its call is unknown, so the line gets no tag
            tag = b""
        else:
            tag = b"\x1e%d\x1f" % call if call != NOBODY else b"\x1e\x1f"
        together = b""
        for line in lines:
            line = tag + line + b"\n"
            if len(together) + len(line) > WHOLE:
                self.put(together)
                together = b""
            together += line
        self.put(together)

    def put(self, data):
        while data:
            data = data[os.write(self.fd, data) :]

    def flush(self):
        """Writes an unfinished line, unless a call runs: its line is written when it ends.

        Outside of a call there is no such end, and a forked child ends without notice.
        """
        call = current.get()
        if not call or self.forked:
            self.finish(call)

    def finish(self, call):
        with self.lock:
            rest = self.unfinished.pop(call, b"")
            if rest:
                self.emit(call, [rest])


def install():
    """Tags lines from now on. The stream objects stay the same, since loggers keep them; only what is beneath them changes."""
    for stream, fd in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
        try:
            stream.flush()
            lines = TaggedLines(fd, stream.name)
            # write_through: text kept in the wrapper would get the tag of the call that prints next.
            io.TextIOWrapper.__init__(stream, lines, stream.encoding, stream.errors, write_through=True)
        except (AttributeError, ValueError, OSError):  # the function closed it, or took it apart
            continue
        streams.append(lines)
        os.register_at_fork(after_in_child=lines.be_a_child)


def finish(call):
    """Writes the unfinished lines of a call that is over."""
    for lines in streams:
        lines.finish(call)


def start(original, args, kwargs):
    """Calls `original`, which starts a thread or a process; a thread's function is wrapped to keep its call's number."""
    if original.__name__ in THREADS and args:
        carry_work()
        args = (carrying(args[0]), *args[1:])
    else:
        process()
    return original(*args, **kwargs)


THREADS = ("start_new_thread", "start_new", "start_joinable_thread")


def process():
    """Notes that a process is being started."""
    global started
    started = True


def processes():
    """Whether a process that a call started may still exist. What it prints has no tag, and may belong to any call."""
    global started
    if started:
        mine = str(os.getpid())
        started = any(alive(pid) for pid in os.listdir("/proc") if pid.isdigit() and pid != mine)
    return started


def alive(pid):
    """Whether a process exists and is no zombie, which prints nothing any more."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


def carrying(function):
    """`function`, wrapped so that what it prints names the call that runs now."""
    owner = current.get() or NOBODY

    def carried(*args, **kwargs):
        current.set(owner)
        return function(*args, **kwargs)

    return carried


def carry_work():
    """Makes work for a `ThreadPoolExecutor` keep its call's number, since the executor's threads serve many calls."""
    module = sys.modules.get("concurrent.futures.thread")
    item = getattr(module, "_WorkItem", None)
    if item is None or hasattr(item, "_ol_call"):
        return
    make, run = item.__init__, item.run

    def remember(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self._ol_call = current.get()

    def carried(self, *args, **kwargs):
        before = current.set(self._ol_call) if self._ol_call is not None else None
        try:
            return run(self, *args, **kwargs)
        finally:
            if before is not None:
                current.reset(before)

    item._ol_call, item.__init__, item.run = None, remember, carried
