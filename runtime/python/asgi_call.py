"""One call of an ASGI app: its scope, the messages that the app receives, and those that it sends.

            start            body, more             last body              the app returns
    ASKED ─────────▶ STARTED ───────────▶ SENDING ───────────▶ COMPLETE ───────────────────▶ gone: END has been sent
      │                 │                    │                    │ it goes on with something else
      └─── the app returns or raises ────────┘                    ▼
                        FAULT                                   BUSY: END|BUSY has been sent, DONE will follow
"""

import asyncio
import os
import sys
from collections import deque
from time import perf_counter_ns

from _ol_guest import (
    BODY, BUSY, DONE, END, FAULT, GRANT, RESULT, WINDOW,
    current, explain, fault_payload, flush, leave_if_forked, load, microseconds, sectioned, sections,
)

Bell = load("bell").Bell
webapp = load("webapp")
percent_decoded = webapp.percent_decoded

ASKED, STARTED, SENDING, COMPLETE, ANSWERED = "asked", "started", "sending", "complete", "answered"
PIECE = 64 * 1024  # of an answer per frame: small, since a sandbox has little memory and each call may hold one
TURN = 16  # after this many frames, a call that never had to wait lets the others run
UNBOUNDED = 1 << 62
# 2.3 and not 2.4: with 2.3, Starlette and frameworks built on it wait for `http.disconnect` while they stream. They thus stop a
# stream at once when the caller leaves, even if it has nothing to send for a while.
VERSIONS = {"version": "3.0", "spec_version": "2.3"}
# By default `path` leaves out `root_path`, as in the original. Frameworks that mount apps within apps expect the whole path, as
# uvicorn sends it.
WHOLE_PATH = os.environ.get("OL_ASGI_PATH") == "whole"


class CallerGone(OSError):
    """Raised in an app that goes on streaming although the caller has left."""


class Call:
    def __init__(self, server, number, payload, ended):
        self.server, self.number = server, number
        self.began = perf_counter_ns()
        self.head, first = sections(payload)
        self.parts, self.ended = deque([first] if first else ()), ended
        self.told_end = False
        self.taken = 0
        self.credit = server.window or UNBOUNDED
        self.state = ASKED
        self.response = self.measure = None
        self.held = self.release = None  # the answer's last part, until it is known whether END needs BUSY; the timer for that
        self.gone = False  # whether the caller has left
        self.ignored = False  # whether a part of a stream was dropped because the caller has left
        self.frames = 0
        self.bell = Bell()  # rings when anything here changes
        self.task = None

    # Frames from the worker.

    def arrived(self, payload, ended):
        if payload:
            self.parts.append(payload)
        self.ended = self.ended or ended
        self.bell.ring()

    def granted(self, size):
        self.credit += size
        self.bell.ring()

    def abandon(self):
        self.gone = True
        self.bell.ring()

    # The app's interface.

    def scope(self):
        head = self.head
        path = head["path"]
        if WHOLE_PATH:
            path = head.get("root", "") + path
        return {
            "type": "http",
            "asgi": dict(VERSIONS),
            "http_version": head.get("http", "1.1"),
            "method": head["method"],
            "scheme": head.get("scheme", "http"),
            "path": percent_decoded(path).decode("utf-8", "replace"),
            "raw_path": path.encode("latin-1"),
            "query_string": head.get("query", "").encode("latin-1"),
            "root_path": percent_decoded(head.get("root", "")).decode("utf-8", "replace"),
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in head.get("headers", ())],
            "client": tuple(head["client"]) if head.get("client") else None,
            "server": tuple(head["server"]) if head.get("server") else None,
            "state": self.server.lifespan.state.copy(),
            "extensions": {},
        }

    async def receive(self):
        while True:
            if self.gone or self.state in (COMPLETE, ANSWERED):
                return {"type": "http.disconnect"}
            if self.parts or (self.ended and not self.told_end):
                return self.next_part()
            await self.bell.wait()

    def next_part(self):
        part = self.parts.popleft() if self.parts else b""
        more = bool(self.parts) or not self.ended
        self.told_end = not more
        self.taken += len(part)
        if self.taken >= GRANT and not self.ended:
            self.server.send(WINDOW, 0, self.number, self.taken.to_bytes(4, "little"))
            self.taken = 0
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.start" and self.state == ASKED:
            status = checked_status(message)
            headers = checked_headers(message.get("headers", ()))
            self.measure = webapp.Measure(webapp.checked_headers(headers), status, self.head["method"])
            self.response = {"status": status, "headers": headers}
            self.state = STARTED
        elif kind == "http.response.body" and self.state in (STARTED, SENDING):
            body = message.get("body", b"")
            if not isinstance(body, (bytes, bytearray, memoryview)):
                raise TypeError("the body of 'http.response.body' must be bytes, not %s" % type(body).__name__)
            body, more = bytes(body), message.get("more_body", False)
            if not self.gone:
                self.measure.take(len(body), not more)
            await self.send_body(body, more)
        else:
            raise RuntimeError("unexpected ASGI message %r: the response is %s" % (kind, self.state))

    async def send_body(self, body, more):
        at = 0
        while not self.gone:
            # Each wait may be long, and the caller may leave meanwhile, so `gone` is checked again after each.
            if self.frames >= TURN:
                self.frames = 0
                await asyncio.sleep(0)
            elif self.server.unsent:
                await self.server.space.wait()
            elif at < len(body) and not self.credit:
                await self.bell.wait()
            else:
                part = body[at : at + min(PIECE, self.credit)]
                at += len(part)
                self.credit -= len(part)
                if at == len(body) and not more:
                    return self.hold(part)
                self.state = SENDING
                self.put(part, 0)
                if at == len(body):
                    return
        if not more:
            self.state = COMPLETE
        elif self.ignored:
            raise CallerGone("the caller left")
        else:
            # What is sent after the caller left is dropped, as the specification demands before 2.4. The second dropped part of a
            # stream raises: by then an app that waits for `http.disconnect` has received it, and any other would stream for ever.
            self.ignored = True
            await asyncio.sleep(0)

    def put(self, part, flags):
        self.frames += 1
        if self.response:
            head, self.response = self.response, None
            self.server.send(RESULT, flags, self.number, sectioned(head, part), self.took(flags))
        elif part or flags:
            self.server.send(BODY, flags, self.number, part, self.took(flags))

    def took(self, flags=END):
        return microseconds(self.began) if flags & END else 0

    def hold(self, part):
        """Keeps the last part for one turn of the loop, since most apps return right after it; then a plain END suffices."""
        self.held = part
        self.state = COMPLETE
        self.release = self.server.loop.call_soon(self.go_on)
        self.bell.ring()

    def go_on(self):
        """Sends the end of the answer with BUSY, since the app goes on after it (a background task)."""
        flush()
        self.end(BUSY)

    def end(self, busy):
        part, self.held = self.held, None
        self.put(part, END | busy)
        self.state = ANSWERED
        self.parts.clear()

    async def run(self, app):
        current.set(self.number)
        error = None
        try:
            await app(self.scope(), self.receive, self.send)
        except BaseException as raised:  # an app may raise anything; sys.exit must not end the loop
            error = raised
        leave_if_forked(error)
        self.over(error)

    def over(self, error):
        """Ends the call with exactly one END, whatever the app did."""
        if error is not None and self.state not in (ASKED, STARTED) and not isinstance(error, CallerGone):
            # It is too late to tell the caller, so the error goes to the log.
            sys.stderr.write(explain(error))
        flush()
        self.server.tagging.finish(self.number)
        del self.server.calls[self.number]
        if self.state == ANSWERED:
            self.server.send(DONE, END, self.number, b"", self.took())
        elif self.held is not None:
            self.release.cancel()
            self.end(0)
        else:
            self.state = ANSWERED
            status = 502 if isinstance(error, webapp.BadAnswer) else 500
            self.server.send(FAULT, END, self.number, fault_payload(status, self.blame(error)), self.took())
        self.bell.ring()

    def blame(self, error):
        if error is not None:
            return explain(error)
        return "cancelled\n" if self.gone else "the app returned without completing its answer\n"


def checked_status(message):
    status = message["status"]
    if not isinstance(status, int):
        raise TypeError("the status of 'http.response.start' must be an int, not %r" % (status,))
    return webapp.checked_status(int(status))


def checked_headers(headers):
    checked = []
    for name, value in headers:
        for text in (name, value):
            if not isinstance(text, (bytes, bytearray, memoryview)):
                raise TypeError("header names and values must be bytes, got %r" % (text,))
        checked.append([bytes(name).decode("latin-1"), bytes(value).decode("latin-1")])
    return checked
