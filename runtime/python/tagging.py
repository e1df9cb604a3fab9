"""Makes each printed line name the call it was printed for, when several calls run at once in one process.

A context variable holds the call; tasks and threads that a call starts inherit it (`asyncio.to_thread`, anyio). Lines
leave whole, each in one write while it is short enough for the pipe to keep it whole among other writers.
"""

import contextvars
import io
import os
import sys
import threading

WHOLE = 4096  # PIPE_BUF: what the kernel writes to a pipe in one piece
LONGEST = 64 * 1024  # an unfinished line that grows past this is written as one, so that it can't fill the memory

current = contextvars.ContextVar("call", default=None)
streams = []


class TaggedLines(io.BufferedIOBase):
    """A binary stream over `fd`. Unfinished lines wait per call, so that calls that print in turns don't mix."""

    def __init__(self, fd):
        self.fd = fd
        self.unfinished = {}
        self.unlock()

    def unlock(self):
        # Re-entered when a finalizer prints while a line is being written.
        self.lock = threading.RLock()

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
        tag = b"" if call is None else b"\x1e%d\x1f" % call
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
        """Outside of calls what is there leaves as it is; within one an unfinished line waits for its end."""
        if current.get() is None:
            with self.lock:
                self.put(self.unfinished.pop(None, b""))

    def finish(self, call):
        with self.lock:
            rest = self.unfinished.pop(call, b"")
            if rest:
                self.emit(call, [rest])


def install():
    for name, fd in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        lines = TaggedLines(fd)
        streams.append(lines)
        # write_through: text that waited in the wrapper would be tagged for whoever prints next.
        setattr(sys, name, io.TextIOWrapper(lines, "utf-8", "backslashreplace", write_through=True))
        os.register_at_fork(after_in_child=lines.unlock)


def finish(call):
    """The call is over: its unfinished lines end here."""
    for lines in streams:
        lines.finish(call)
