"""Serves an ASGI app: one event loop for the process, any number of calls at once.

The reader never waits for an app, since the windows that the calls grant bound what the worker sends. Writers wait while the
socket is full, so that at most one frame per call is kept here unsent.
"""

import asyncio
import os
import sys
from collections import deque

from _ol_guest import (
    BODY, CALL, CANCEL, END, FRAME, HEADER, WINDOW,
    explain, flush, leave_if_forked, left, load, tagged,
)

Call = load("asgi_call").Call
Lifespan = load("lifespan").Lifespan
Bell = load("bell").Bell

READ = 64 * 1024
SHUTDOWN_SECONDS = 2.0  # in which to shut down when the worker closes the socket; it kills a guest that takes much longer


class Server:
    """The connection in the event loop: passes incoming frames to the calls, and sends their frames."""

    def __init__(self, connection, app, loop):
        self.connection, self.app, self.loop = connection, app, loop
        self.window = connection.window
        self.lifespan = Lifespan(app)
        self.calls = {}
        self.tagging = tagged()  # needed at once, since a task may go on after the call that started it
        self.parts, self.have, self.need = [], 0, HEADER  # the received parts of an incomplete frame, their size, the size to wait for
        self.unsent = deque()
        self.space = Bell()  # rings when everything is sent
        self.closing = None

    def listen(self):
        ahead, self.connection.buffer = self.connection.buffer, b""
        self.arrived(ahead)
        os.set_blocking(self.connection.fd, False)
        self.loop.add_reader(self.connection.fd, self.readable)

    def readable(self):
        leave_if_forked()  # a child that the app forked may return here, and shares the parent's epoll
        try:
            data = os.read(self.connection.fd, READ + self.need - self.have)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.arrived(data)
        else:
            self.worker_gone()

    def arrived(self, data):
        self.parts.append(data)
        self.have += len(data)
        if self.have < self.need:
            return
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        at = 0
        while True:
            self.need = HEADER
            if len(data) - at >= HEADER:
                self.need += int.from_bytes(data[at : at + 4], "little")
            if len(data) - at < self.need:
                break
            end = at + self.need
            call = int.from_bytes(data[at + 8 : at + 12], "little")
            self.frame(data[at + 4], data[at + 5], call, data[at + HEADER : end])
            at = end
        rest = data[at:]
        self.parts, self.have = [rest] if rest else [], len(rest)

    def frame(self, kind, flags, number, payload):
        if kind == CALL:
            call = self.calls[number] = Call(self, number, payload, bool(flags & END))
            call.task = self.loop.create_task(call.run(self.app))
            return
        call = self.calls.get(number)
        if call is None:
            return
        if kind == BODY:
            call.arrived(payload, bool(flags & END))
        elif kind == WINDOW:
            call.granted(int.from_bytes(payload[0:4], "little"))
        elif kind == CANCEL:
            call.abandon()

    def send(self, kind, flags, call, payload, took=0):
        """Sends a frame, or keeps what the socket doesn't take. A caller that can wait does so for `space` before the next one."""
        if self.closing:
            return
        if flags & END and call:
            flags |= left()
        frame = FRAME.pack(len(payload), kind, flags, took, call) + payload
        if not self.unsent:
            try:
                sent = os.write(self.connection.fd, frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                return self.worker_gone()
            if sent == len(frame):
                return
            frame = frame[sent:]
            self.loop.add_writer(self.connection.fd, self.writable)
        self.unsent.append(frame)

    def writable(self):
        leave_if_forked()
        try:
            while self.unsent:
                sent = os.write(self.connection.fd, self.unsent[0])
                if sent < len(self.unsent[0]):
                    self.unsent[0] = self.unsent[0][sent:]
                else:
                    self.unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            return self.worker_gone()
        self.loop.remove_writer(self.connection.fd)
        self.space.ring()

    def worker_gone(self):
        """Starts the shutdown, since the worker is gone."""
        if self.closing:
            return
        self.loop.remove_reader(self.connection.fd)
        self.loop.remove_writer(self.connection.fd)
        self.closing = self.loop.create_task(self.end())
        self.unsent.clear()
        self.space.ring()
        for call in list(self.calls.values()):
            call.abandon()

    async def end(self):
        """Gives the calls time to finish, then runs the app's shutdown, and stops the loop."""
        try:
            deadline = self.loop.time() + SHUTDOWN_SECONDS
            tasks = [call.task for call in self.calls.values()]
            if tasks:
                await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS / 4)
            await asyncio.wait_for(self.lifespan.shut_down(), deadline - self.loop.time())
        except Exception as error:
            if not isinstance(error, asyncio.TimeoutError):
                sys.stderr.write(explain(error))
        finally:
            self.loop.stop()

    def run(self):
        while True:
            try:
                return self.loop.run_forever()
            except BaseException as error:  # sys.exit in a task that the app started is raised here
                leave_if_forked(error)
                sys.stderr.write(explain(error))
                flush()


def event_loop():
    """The loop that the app's module got if it asked for one at import (old Pythons bind locks and queues to it), else a new one."""
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:
        loop = None
    if loop is None or loop.is_closed():
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


server = None


def start(connection, app):
    """Runs the app's startup; returns whether the app supports lifespan. Raises if the app says that it can't serve."""
    global server
    server = Server(connection, app, event_loop())
    return server.loop.run_until_complete(server.lifespan.start_up())


def serve(connection, app):
    server.listen()
    server.run()
