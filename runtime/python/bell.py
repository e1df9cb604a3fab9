"""Waiting for a change that several tasks may wait for. Each has its own future: cancelling one task must not reach the
others, nor leave anything behind in a call that is asked a million times whether its caller is still there."""

import asyncio


class Bell:
    def __init__(self):
        self.waiters = set()

    async def wait(self):
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await waiter
        finally:
            self.waiters.discard(waiter)

    def ring(self):
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
