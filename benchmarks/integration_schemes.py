"""The published schemes of integration in the simulated world, each as its authors describe it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import anyio
import anyio.abc
import anyio.lowlevel

from benchmarks.integration_world import MINUTE, SimTree, Simulation, Work

Scheme = Callable[[Simulation], "Integration"]


class Integration:
    """A way to bring changes to main. `submit` is a part of the agent's own time where `inline` says so."""

    inline = False

    def __init__(self, world: Simulation) -> None:
        self.sim = world
        self.waiting: deque[Work] = deque()
        self.news = anyio.Event()

    async def submit(self, work: Work) -> None:
        self.waiting.append(work)
        self.news.set()

    async def keep(self) -> None:
        raise NotImplementedError

    async def next(self) -> None:
        """Returns when something waits."""
        while not self.waiting:
            self.news = anyio.Event()
            await self.news.wait()

    @property
    def main(self) -> SimTree:
        return SimTree(len(self.sim.main))

    def onto(self, tree: SimTree, *works: Work) -> SimTree:
        return SimTree(tree.landed, (*tree.stack, *(work.change.id for work in works)))

    def mergeable(self, tree: SimTree, works: Sequence[Work]) -> list[Work]:
        """Those that merge one after the other; the rest is bounced."""
        kept: list[Work] = []
        for work in works:
            if self.sim.merges(work, self.onto(tree, *kept)):
                kept.append(work)
            else:
                self.sim.bounce(work.change.id)
        return kept


class Ungated(Integration):
    """Everybody pushes. Who finds main broken before pushing repairs one breakage first, which takes a fix."""

    inline = True

    async def submit(self, work: Work) -> None:
        sim = self.sim
        if sim.broken:
            mended = sim.dice.choice(sorted(sim.broken))
            await anyio.sleep(sim.world.fix * MINUTE)
            sim.broken.discard(mended)
            sim._tell()
        if sim.merges(work, self.main):
            sim.land([work.change.id])
        else:
            sim.bounce(work.change.id)

    async def keep(self) -> None:
        await anyio.sleep_forever()


class Serial(Integration):
    """One change at a time, judged merged with main."""

    async def keep(self) -> None:
        while True:
            await self.next()
            for work in self.mergeable(self.main, [self.waiting.popleft()]):
                if await self.sim.full(self.onto(self.main, work)):
                    self.sim.bounce(work.change.id)
                else:
                    self.sim.land([work.change.id])


class Bors(Integration):
    """Batches of up to 16; a failed one is halved until the bad change stands alone."""

    async def keep(self) -> None:
        while True:
            await self.next()
            batch = [self.waiting.popleft() for _ in range(min(16, len(self.waiting)))]
            await self.halve(batch)

    async def halve(self, batch: Sequence[Work]) -> None:
        batch = self.mergeable(self.main, batch)
        if not batch:
            return
        if not await self.sim.full(self.onto(self.main, *batch)):
            self.sim.land([work.change.id for work in batch])
        elif len(batch) == 1:
            self.sim.bounce(batch[0].change.id)
        else:
            await self.halve(batch[: len(batch) // 2])
            await self.halve(batch[len(batch) // 2 :])


class Batch5(Integration):
    """Batches of up to 5; a failed one is run again, then each of its changes alone."""

    async def keep(self) -> None:
        sim = self.sim
        while True:
            await self.next()
            batch = [self.waiting.popleft() for _ in range(min(5, len(self.waiting)))]
            batch = self.mergeable(self.main, batch)
            if not batch:
                continue
            tree = self.onto(self.main, *batch)
            if not await sim.full(tree) or not await sim.full(tree):
                sim.land([work.change.id for work in batch])
                continue
            for work in batch if len(batch) > 1 else ():
                for one in self.mergeable(self.main, [work]):
                    if await sim.full(self.onto(self.main, one)):
                        sim.bounce(one.change.id)
                    else:
                        sim.land([one.change.id])
            if len(batch) == 1:
                sim.bounce(batch[0].change.id)


class Zuul(Integration):
    """Up to 20 changes are judged at once, each as if all before it had landed; a failure starts those behind anew."""

    DEPTH = 20

    async def keep(self) -> None:
        while True:
            await self.next()
            window = self.mergeable(
                self.main, [self.waiting.popleft() for _ in range(min(self.DEPTH, len(self.waiting)))]
            )
            while window:
                window = await self._window(window)
                while self.waiting and len(window) < self.DEPTH:
                    window = self.mergeable(self.main, [*window, self.waiting.popleft()])

    async def _window(self, window: list[Work]) -> list[Work]:
        """Lands from the head while it passes. Returns what has to be judged anew behind the first failure."""
        results: dict[int, anyio.Event] = {place: anyio.Event() for place in range(len(window))}
        failed: dict[int, bool] = {}
        main = self.main

        async def one(place: int) -> None:
            failed[place] = bool(await self.sim.full(self.onto(main, *window[: place + 1])))
            results[place].set()

        async with anyio.create_task_group() as tasks:
            for place in range(len(window)):
                tasks.start_soon(one, place)
                await anyio.lowlevel.checkpoint()  # so that they come to the cores in this order
            for place, work in enumerate(window):
                await results[place].wait()
                if failed[place]:
                    tasks.cancel_scope.cancel()
                    self.sim.bounce(work.change.id)
                    return window[place + 1 :]
                self.sim.land([work.change.id])
        return []


class Optimistic(Integration):
    """Pushed after a free fast tier; main is judged again and again, and the culprits of what fails are reverted."""

    async def submit(self, work: Work) -> None:
        sim = self.sim
        if await sim.quick(self.main, work.change.id) or not sim.merges(work, self.main):
            sim.bounce(work.change.id)
        else:
            sim.land([work.change.id])
            self.news.set()

    async def keep(self) -> None:
        sim, judged = self.sim, 0
        while True:
            if len(sim.main) == judged:
                self.news = anyio.Event()
                await self.news.wait()
            main = self.main
            lost = await sim.full(main)
            found = [id for id in sorted(sim.broken) if lost & {*sim.works[id].lost, *sim.pairs.get(id, {}).values()}]
            steps = max(1, math.ceil(math.log2(max(2, main.landed - judged))))
            for id in found:
                for _ in range(steps):
                    await sim.some(main, lost)
                sim.revert(id)
            judged = main.landed
