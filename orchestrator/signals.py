"""A bell: how coroutines wait for each other's changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio


class Bell:
    """Coroutines wait for something to have changed, without polling.

    `heard` is the number of rings so far; waiting for a later one cannot miss a ring in between.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._next = anyio.Event()

    def ring(self) -> None:
        self.heard += 1
        self._next.set()
        self._next = anyio.Event()

    async def wait(self, since: int, timeout_s: float | None = None) -> int:
        """Returns the count once it is over `since`, or as it is after `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self.heard <= since:
                await self._next.wait()
        return self.heard

    async def rings(self) -> AsyncIterator[None]:
        """Yields at once, then after each ring; several rings while its reader is at work are one."""
        while True:
            heard = self.heard
            yield
            await self.wait(heard)

    async def until(self, true: Callable[[], bool]) -> None:
        """Returns once it is true: looks at once, then after each ring."""
        heard = self.heard
        while not true():
            heard = await self.wait(heard)
