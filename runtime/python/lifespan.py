"""The ASGI lifespan of an app: its startup before the first call, its shutdown when the worker is gone."""

import asyncio
import sys

from _ol_guest import Refusal, leave_if_forked, load

Bell = load("bell").Bell

WAITING, STARTED, FAILED, STOPPED = "waiting", "started", "failed", "stopped"
REPLIES = {
    "lifespan.startup.complete": STARTED,
    "lifespan.startup.failed": FAILED,
    "lifespan.shutdown.complete": STOPPED,
    "lifespan.shutdown.failed": STOPPED,
}


class Lifespan:
    def __init__(self, app):
        self.app = app
        self.state = {}  # filled by the app at startup; each call gets a copy in its scope
        self.progress = WAITING
        self.message = ""
        self.error = None
        self.over = False
        self.asked = 0
        self.stopping = False
        self.bell = Bell()
        self.task = None

    async def start_up(self):
        self.task = asyncio.get_running_loop().create_task(self.run())
        while self.progress == WAITING and not self.over:
            await self.bell.wait()
        if self.progress == FAILED:
            raise Refusal(self.message or "the app's startup failed")
        if isinstance(self.error, (SystemExit, KeyboardInterrupt)):
            raise self.error
        # According to the specification, an app that raises at once, or returns, doesn't support lifespan; that is no failure.
        return self.progress == STARTED

    async def shut_down(self):
        if self.progress != STARTED:
            return
        self.stopping = True
        self.bell.ring()
        while self.progress == STARTED and not self.over:
            await self.bell.wait()
        if self.message:
            sys.stderr.write("shutdown failed: %s\n" % self.message)
        if self.error is not None:
            raise self.error

    async def run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.app(scope, self.receive, self.send)
        except BaseException as error:  # sys.exit must not end the loop
            leave_if_forked(error)
            self.error = error
        self.over = True
        self.bell.ring()

    async def receive(self):
        self.asked += 1
        if self.asked == 1:
            return {"type": "lifespan.startup"}
        while not self.stopping:
            await self.bell.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message):
        kind = message["type"]
        expected = WAITING if kind.startswith("lifespan.startup.") else STARTED
        if kind not in REPLIES or self.progress != expected:
            raise RuntimeError("unexpected ASGI message %r, lifespan is %s" % (kind, self.progress))
        self.progress = REPLIES[kind]
        self.message = message.get("message", "")
        self.bell.ring()
