"""A bell: coroutines wait for something to have changed, without polling and without missing a ring."""

from __future__ import annotations

import anyio


class Bell:
    """`heard` is the number of rings so far; waiting for a later one cannot miss a ring in between."""

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
