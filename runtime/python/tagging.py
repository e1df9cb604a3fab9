"""Makes each printed line name the call that it was printed for, where that isn't plain: when several calls run at once in one process, or
when something that a call started may go on after it.

The context variable `current` holds the call. Tasks inherit it, and so do functions that a task hands to a thread
(`asyncio.to_thread`, anyio); threads are given that of who started them, and work handed to a `ThreadPoolExecutor` that of who handed it
over. A forked process goes on with its parent's. What another program prints names nobody: `processes` says whether one may be
left. Lines leave whole, each in one write while it is short enough for the pipe to keep it whole among other writers.
"""

import io
import os
import sys
from _thread import RLock

from _ol_guest import NOBODY, current

WHOLE = 4096  # PIPE_BUF: what the kernel writes to a pipe in one piece
LONGEST = 64 * 1024  # an unfinished line that grows past this is written as one, so that it can't fill the memory

streams = []
started = False  # a process was, and may still be there


class TaggedLines(io.BufferedIOBase):
    """A binary stream over `fd`. Unfinished lines wait per call, so that calls that print in turns don't mix."""

    def __init__(self, fd, name):
        self.fd, self.name, self.mode = fd, name, "wb"
        self.unfinished = {}
        # Re-entered when a finalizer prints while a line is being written.
        self.lock = RLock()
        self.forked = False

    def be_a_child(self):
        """In a process just forked: what is unfinished is the parent's to write."""
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
        if call is None:  # a thread that Python didn't start: the worker knows as much as we
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
        """Within a call an unfinished line waits for its end. Elsewhere there is none, and a child ends without telling."""
        call = current.get()
        if not call or self.forked:
            self.finish(call)

    def finish(self, call):
        with self.lock:
            rest = self.unfinished.pop(call, b"")
            if rest:
                self.emit(call, [rest])


def install():
    """From now on. The streams stay the objects that they are, since loggers keep them; only what is beneath them changes."""
    for stream, fd in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
        try:
            stream.flush()
            lines = TaggedLines(fd, stream.name)
            # write_through: text that waited in the wrapper would be tagged for whoever prints next.
            io.TextIOWrapper.__init__(stream, lines, stream.encoding, stream.errors, write_through=True)
        except (AttributeError, ValueError, OSError):  # the function closed it, or took it apart
            continue
        streams.append(lines)
        os.register_at_fork(after_in_child=lines.be_a_child)


def finish(call):
    """The call is over: its unfinished lines end here."""
    for lines in streams:
        lines.finish(call)


def start(original, args, kwargs):
    """`original`, which starts a thread or a process, called as its caller wants it."""
    if original.__name__ in THREADS and args:
        carry_work()
        args = (carrying(args[0]), *args[1:])
    else:
        process()
    return original(*args, **kwargs)


THREADS = ("start_new_thread", "start_new", "start_joinable_thread")


def process():
    """One is being started."""
    global started
    started = True


def processes():
    """Is there a process that a call started? What it prints bears no name, and may be any call's."""
    global started
    if started:
        mine = str(os.getpid())
        started = any(alive(pid) for pid in os.listdir("/proc") if pid.isdigit() and pid != mine)
    return started


def alive(pid):
    """Not gone, and not a zombie, which prints nothing any more."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


def carrying(function):
    """`function` as a thread of the call that runs now."""
    owner = current.get() or NOBODY

    def carried(*args, **kwargs):
        current.set(owner)
        return function(*args, **kwargs)

    return carried


def carry_work():
    """The threads of an executor outlive the call that started them, and work for others."""
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
