"""A bell: how coroutines wait for each other's changes."""

from collections.abc import AsyncIterator, Callable

import anyio


class Bell:
    """Coroutines wait for something to have changed, without polling.

    `coming` is the next ring: who holds it from before a look cannot miss a ring in between.
    """

    def __init__(self) -> None:
        self.coming = anyio.Event()
        self.rung = 0  # times

    def ring(self) -> None:
        self.rung += 1
        self.coming.set()
        self.coming = anyio.Event()

    async def rings(self) -> AsyncIterator[None]:
        """Yields at once, then after each ring; several rings while its reader is at work are one."""
        while True:
            coming = self.coming
            yield
            await coming.wait()

    async def until(self, true: Callable[[], bool]) -> None:
        """Returns once it is true: looks at once, then after each ring."""
        while not true():
            await self.coming.wait()
