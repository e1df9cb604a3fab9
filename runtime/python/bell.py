"""A bell, which tasks wait for until it rings: something has changed.

Each waiting task has its own future. Thus cancelling one task doesn't affect the others, and leaves nothing behind, even if an
app asks a million times in one call whether its caller is still there.
"""

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
