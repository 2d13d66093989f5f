"""`python -m benchmarks.integration`: how many changes an hour each scheme of integration lands, on a simulated clock.

Ours is the real code of orchestrator/queue.py over simulated trees, judges and agents; the others are written down
below, each as its authors describe it. An agent works, submits, and goes on with its next task while that change is
judged; it has one unmerged change at most. A bounced change comes back repaired, unless it is broken again.

Rows: landed changes an hour; eta, their share of what agents or cores could do at best, with its spread over the seeds;
red, the share of time in which main was broken in truth, whatever the scheme believes; minutes from done to landed,
median and 95th percentile; full suites run for each landed change. What is in the model: `World`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final
from unittest.mock import patch

import anyio
import anyio.abc
import anyio.lowlevel
import trio
from trio._core import _run as scheduling
from trio.testing import MockClock

from orchestrator.queue import Conflict, Queue, Staged
from orchestrator.records import Change, ChangeState
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict

NOON: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)
MINUTE: Final = 60.0


@dataclass(frozen=True)
class World:
    """The model of agents and suites, in minutes, shares and counts. 5 to 40 % of changes conflict where 16 are made at
    a time (Uber), 28 % of agents' pull requests do (AgenticFlict), 1.5 % of test runs are flaky (Google); how often a
    change is broken is assumed."""

    agents: int
    cores: int
    suite: float  # CPU minutes
    hours: float = 36.0
    warm_up: float = 6.0
    task: float = 30.0  # of an agent's time, the mean; lognormal
    spread: float = 0.6  # sigma of the logarithm
    fix: float = 10.0  # of an agent's time, for a bounced change
    broken: float = 0.15  # alone, when it is submitted first
    relapse: float = 0.15  # the same of a repaired one
    conflicts: float = 0.15  # with another change in flight, textually
    clashes: float = 0.03  # breaks only together with another one in flight
    flaky: float = 0.03  # full runs in which a case fails by chance
    again: float = 0.3  # of the runs of such a case alone
    shards: int = 16  # at most
    start: float = 0.5  # of each run and shard
    rerun: float = 0.05  # of the suite's CPU time, for a few of its cases; those that a change gains are such a few
    fast: float = 0.1
    caught: float = 0.9  # of what is broken alone, by the fast tier
    cases: int = 400
    shaky: int = 200  # cases besides that can fail by chance: enough that quarantine does not use them up

    def agent_bound(self) -> float:
        """Changes an hour that the agents could land if integration cost nothing."""
        repairs = self.broken / (1 - self.relapse) + self.conflicts + self.clashes
        return 60 * self.agents / (self.task + self.fix * repairs)

    def gate_bound(self, batch: float = 256.0) -> float:
        """Changes an hour that a gate with a verdict for each case could land on its cores, in batches so large."""
        broken = self.broken * (1 - self.caught) + self.clashes
        whole = 2 * (self.suite + min(self.cores, self.shards) * self.start) / batch
        return 60 * self.cores * (1 - broken) / (whole + broken * 12 * (self.start + self.rerun * self.suite))


@dataclass
class Work:
    """One version of a change, with what only the simulation knows of it."""

    change: Change
    lost: frozenset[str]  # cases that it breaks alone
    caught: bool  # by the fast tier


@dataclass(frozen=True)
class SimTree:
    """A `Tree`: so many landed changes, and those stacked on them."""

    landed: int
    stack: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.landed}+{','.join(self.stack)}"

    def tar(self) -> AsyncIterator[bytes]:
        raise NotImplementedError("a simulated tree has no bytes")


class Cores:
    """The gate's cores, given in the order in which they were asked for."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[tuple[int, anyio.Event]] = deque()

    async def use(self, count: int, minutes: float) -> None:
        mine = anyio.Event()
        self._queue.append((count, mine))
        self._admit()
        try:
            await mine.wait()
            await anyio.sleep(minutes * MINUTE)
        finally:
            if mine.is_set():
                self._free += count
            else:
                self._queue.remove((count, mine))
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            count, event = self._queue.popleft()
            self._free -= count
            event.set()


class Simulation:
    """The world's state: what is on main, what is in flight, and what was measured."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.gate_cores = Cores(world.cores)
        self.works: dict[str, Work] = {}  # newest version of each change in flight or on main
        self.pairs: dict[str, dict[str, str]] = {}  # by change: others with which it breaks a case, or, "", conflicts
        self.main: list[str] = []  # every landing, in order; a reverted change is there twice
        self.landed_at: dict[str, int] = {}  # place on main
        self.landed_when: dict[str, float] = {}
        self.done: dict[str, float] = {}  # when the agent had finished it first
        self.flight: dict[str, None] = {}  # submitted and not landed
        self.answers: dict[str, anyio.Event] = {}
        self.bounced: set[str] = set()
        self.broken: set[str] = set()  # changes on main that break it now
        self.redo: dict[str, list[Work]] = {}  # by seat: landed, and taken back
        self.suites = 0.0  # after the warm-up, as `red`
        self.red_since: float | None = None
        self.red = 0.0
        self.cases = [f"suite/{number}" for number in range(world.cases)]
        self.flaky = [f"flaky/{number}" for number in range(world.shaky)]

    @property
    def warm(self) -> float:
        return self.world.warm_up * 60 * MINUTE

    # What agents do

    def finished(self, seat: str, base: int) -> Work:
        """A task's work, as a change nobody has tried yet."""
        id = f"C{len(self.done) + 1}"
        change = Change(id, f"{seat}/1", seat, "", ChangeState.QUEUED, NOON, "", f"{id}.1", "", "")
        others = [*self.flight, *self.main[base:]]
        if others and self.dice.random() < self.world.conflicts:
            self._pair(id, self.dice.choice(others), "")
        if others and self.dice.random() < self.world.clashes:
            self._pair(id, self.dice.choice(others), self.dice.choice(self.cases))
        self.done[id] = anyio.current_time()
        return self._version(change, self.world.broken)

    def repaired(self, work: Work) -> Work:
        """Another version of the change, made on today's main."""
        id = work.change.id
        for other in [one for one in self.pairs.get(id, ()) if one in self.landed_at]:
            del self.pairs[id][other], self.pairs[other][id]
        return self._version(work.change, self.world.relapse)

    def _pair(self, one: str, other: str, case: str) -> None:
        self.pairs.setdefault(one, {})[other] = self.pairs.setdefault(other, {})[one] = case

    def _version(self, change: Change, broken: float) -> Work:
        lost = self.dice.sample(self.cases, self.dice.randint(1, 3)) if self.dice.random() < broken else []
        return Work(change, frozenset(lost), bool(lost) and self.dice.random() < self.world.caught)

    # What is true

    def holds(self, tree: SimTree, change: str) -> bool:
        return self.landed_at.get(change, math.inf) < tree.landed or change in tree.stack

    def failing(self, tree: SimTree) -> frozenset[str]:
        """The cases that a tree really loses."""
        lost = set[str]()
        for id in (*tree.stack, *(one for one in self.broken if self.holds(tree, one))):
            lost |= self.works[id].lost
            for other, case in self.pairs.get(id, {}).items():
                if case and self.holds(tree, other):
                    lost.add(case)
        return frozenset(lost)

    def merges(self, work: Work, tree: SimTree) -> bool:
        pairs = self.pairs.get(work.change.id, {})
        return not any(not case and self.holds(tree, other) for other, case in pairs.items())

    # What happens to changes

    def land(self, ids: Sequence[str]) -> None:
        for id in ids:
            self.landed_at[id], self.landed_when[id] = len(self.main), anyio.current_time()
            self.main.append(id)
            self.flight.pop(id)
            self.answers[id].set()
            if self._breaks(id):
                self.broken.add(id)
        self._tell()

    def _breaks(self, id: str) -> bool:
        """Whether a landed change breaks main."""
        pairs = self.pairs.get(id, {})
        return bool(self.works[id].lost) or any(case and other in self.landed_at for other, case in pairs.items())

    def revert(self, id: str) -> None:
        """Takes a landed change off main, and back to its seat."""
        self.broken.discard(id)
        del self.landed_at[id], self.landed_when[id]
        self.broken -= {other for other in self.broken.intersection(self.pairs.get(id, ())) if not self._breaks(other)}
        self.redo.setdefault(self.works[id].change.seat, []).append(self.works[id])
        self._tell()

    def bounce(self, id: str) -> None:
        self.flight.pop(id, None)
        self.bounced.add(id)
        self.answers[id].set()

    def _tell(self) -> None:
        now = anyio.current_time()
        if self.broken and self.red_since is None:
            self.red_since = now
        elif not self.broken and self.red_since is not None:
            self.red += max(0.0, now - max(self.red_since, self.warm))
            self.red_since = None

    # What judging costs and says

    async def full(self, tree: SimTree) -> frozenset[str]:
        """A whole suite on all shards; returns the cases that failed."""
        width = min(self.world.cores, self.world.shards)
        await self.gate_cores.use(width, self.world.start + self.world.suite / width)
        self.suites += anyio.current_time() > self.warm
        failed = self.failing(tree)
        if self.dice.random() < self.world.flaky:
            failed |= {self.dice.choice(self.flaky)}
        return failed

    async def some(self, tree: SimTree, cases: Collection[str]) -> frozenset[str]:
        await self.gate_cores.use(1, self.world.start + self.world.rerun * self.world.suite)
        self.suites += self.world.rerun * (anyio.current_time() > self.warm)
        unsteady = {case for case in sorted(cases) if case[:6] == "flaky/" and self.dice.random() < self.world.again}
        return (self.failing(tree) & frozenset(cases)) | unsteady

    async def quick(self, tree: SimTree, change: str) -> frozenset[str]:
        """The fast tier on the submitter's own cores."""
        await anyio.sleep((self.world.start + self.world.fast * self.world.suite) * MINUTE)
        work = self.works[change]
        return work.lost if work.caught else frozenset()


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


class Ours(Integration):
    """orchestrator/queue.py itself, over simulated trees, judges and a book."""

    judge_of_gate: type[GateJudge]

    def __init__(self, world: Simulation) -> None:
        super().__init__(world)
        floor = frozenset([*world.cases, *world.flaky])
        cores = max(2, world.world.cores // 2)
        self.queue = Queue(self, self.judge_of_gate(self), SeatJudge(self), self, SimTree(0).id, floor, probes=cores)
        self.trees = {SimTree(0).id: SimTree(0)}
        self.flaky: set[str] = set()

    async def submit(self, work: Work) -> None:
        await self.queue.submit(work.change)

    async def keep(self) -> None:
        await self.queue.keep()

    # Trees

    async def put(self, change: Change, onto: str) -> Staged | Conflict:
        below, work = self._normal(self.trees[onto]), self.sim.works[change.id]
        if not self.sim.merges(work, below):
            return Conflict((f"{change.id}.rs",), "")
        made = self.onto(below, work)
        self.trees[made.id] = made
        return Staged(change, made.id, made)

    async def tree(self, commit: str) -> Tree:
        return self.trees[commit]

    def _normal(self, tree: SimTree) -> SimTree:
        """The same tree with what has landed meanwhile counted as landed."""
        landed, stack = tree.landed, list(tree.stack)
        while stack and self.sim.landed_at.get(stack[0]) == landed:
            landed, stack = landed + 1, stack[1:]
        return SimTree(landed, tuple(stack))

    # Book

    async def excused(self) -> frozenset[str]:
        return frozenset(self.flaky)

    async def unsteady(self, cases: Mapping[str, str]) -> None:
        self.flaky |= cases.keys()

    async def staged(self, staged: Staged, onto: Sequence[Staged]) -> None: ...

    async def parked(self, change: Change, clash: Conflict) -> None: ...

    async def judging(self, stack: Sequence[Staged]) -> None: ...

    async def judged(self, stack: Sequence[Staged], card: Scorecard, lost: Collection[str], seconds: float) -> None: ...

    async def voided(self, stack: Sequence[Staged], reason: str, wait_s: float) -> None: ...

    async def clashed(self, change: Change, clash: Conflict) -> None:
        self.sim.bounce(change.id)

    async def bounced(self, change: Change, reason: str, detail: str = "", lost: Collection[str] = ()) -> None:
        self.sim.bounce(change.id)

    async def landed(self, stack: Sequence[Staged], card: Scorecard, seconds: float) -> None:
        self.sim.land([staged.change.id for staged in stack])


PASSES: Final = Build(True, 0.0)


@dataclass
class GateJudge:
    """The gate's `Judge`: what the simulation knows, at the price of the gate's cores. Of sixteen agents' changes one
    gains a case, so that nearly every landing has a gain to confirm."""

    of: Ours

    def __post_init__(self) -> None:
        cases = (*self.of.sim.cases, *self.of.sim.flaky)
        self._passing = {case: Verdict(case, Outcome.PASS) for case in cases}
        self._known = 0  # landings of which the gains are in it

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        assert isinstance(tree, SimTree)
        if selection.tier is not Tier.FULL:
            return _card(tree, selection.cases, await self.of.sim.some(tree, selection.cases))
        failed = await self.of.sim.full(tree)
        landed = self.of.sim.main[self._known : tree.landed]
        self._known += len(landed)
        self._passing |= self._gains(landed)
        verdicts = self._passing | self._gains(tree.stack) | {case: Verdict(case, Outcome.FAIL) for case in failed}
        return Scorecard(tree.id, "full", PASSES, verdicts)

    def _gains(self, changes: Sequence[str]) -> dict[str, Verdict]:
        every = math.ceil(self.of.sim.world.agents / 16)
        return {f"gain/{id}": Verdict(f"gain/{id}", Outcome.PASS) for id in changes if int(id[1:]) % every == 0}


class OneBit(GateJudge):
    """A gate that learns no more of a tree than whether its whole suite passes, and pays for it each time. That main
    passes is known, and nothing of it is flaky or gained."""

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        assert isinstance(tree, SimTree)
        failed = await self.of.sim.full(tree) if tree.id != self.of.queue.main else ()
        asked = selection.cases or (*self.of.sim.cases, *self.of.sim.flaky)
        return _card(tree, asked, asked if failed else ())


@dataclass
class SeatJudge:
    """The fast tier's `Judge`, on the submitter's own cores."""

    of: Ours

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        assert isinstance(tree, SimTree)
        world = self.of.sim.world
        if selection.tier is Tier.FAST:
            lost = await self.of.sim.quick(tree, tree.stack[-1])
            return _card(tree, lost, lost)
        await anyio.sleep((world.start + world.rerun * world.suite) * MINUTE)
        return _card(tree, selection.cases, self.of.sim.failing(tree))


def _card(tree: SimTree, asked: Collection[str], failed: Collection[str]) -> Scorecard:
    verdicts = {case: Verdict(case, Outcome.FAIL if case in failed else Outcome.PASS) for case in asked}
    return Scorecard(tree.id, "full", PASSES, verdicts)


Ours.judge_of_gate = GateJudge


class OursOneBit(Ours):
    judge_of_gate = OneBit


class OursOneByOne(Ours):
    """A judgement takes one change."""

    async def keep(self) -> None:
        with patch("orchestrator.queue.CAP", 1):
            await super().keep()


SCHEMES: Final[dict[str, Scheme]] = {
    "ours": Ours,
    "ungated": Ungated,
    "serial": Serial,
    "bors": Bors,
    "batch of 5": Batch5,
    "zuul": Zuul,
    "optimistic": Optimistic,
    "ours, one bit": OursOneBit,
    "ours, one by one": OursOneByOne,
}


async def agent(sim: Simulation, scheme: Integration, seat: str, tasks: anyio.abc.TaskGroup) -> None:
    """Task after task. A bounce is repaired at once, and a change that has not landed yet holds back the next one."""
    world, pending = sim.world, list[Work]()
    mu = math.log(world.task) - world.spread**2 / 2

    async def hand_in(work: Work) -> None:
        sim.works[work.change.id], sim.flight[work.change.id] = work, None
        sim.answers[work.change.id] = anyio.Event()
        pending.append(work)
        if scheme.inline:
            await scheme.submit(work)
        else:
            tasks.start_soon(scheme.submit, work)

    async def answered() -> None:
        """Waits for the verdict on the pending change; repairs and submits it again where it bounced."""
        await sim.answers[pending[0].change.id].wait()
        work = pending.pop()
        if work.change.id in sim.bounced:
            sim.bounced.discard(work.change.id)
            await anyio.sleep(world.fix * MINUTE)
            await hand_in(sim.repaired(work))

    while True:
        base, left = len(sim.main), sim.dice.lognormvariate(mu, world.spread) * MINUTE
        while left > 0 and pending:
            began = anyio.current_time()
            with anyio.move_on_after(left):
                await sim.answers[pending[0].change.id].wait()
            left -= anyio.current_time() - began
            if left > 0:
                await answered()
        await anyio.sleep(max(left, 0))
        work = sim.finished(seat, base)
        while pending:
            await answered()
        for reverted in sim.redo.pop(seat, []):
            await anyio.sleep(world.fix * MINUTE)
            await hand_in(sim.repaired(reverted))
            while pending:
                await answered()
        await hand_in(work)


async def simulated(name: str, world: World, seed: int) -> Simulation:
    sim = Simulation(world, seed)
    scheme = SCHEMES[name](sim)
    with anyio.move_on_after(world.hours * 60 * MINUTE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheme.keep)
            for number in range(world.agents):
                tasks.start_soon(agent, sim, scheme, f"agent-{number:02d}", tasks)
    sim.broken.clear()
    sim._tell()
    return sim


@dataclass(frozen=True)
class Row:
    scheme: str
    agents: int
    cores: int
    suite_cpu_min: float
    landed_per_h: float
    eta: float
    eta_sd: float  # over the seeds; 0 for one
    red: float
    p50_min: float
    p95_min: float
    full_suites_per_landed: float


def repeatable(seed: int) -> None:
    """trio shuffles tasks on purpose: from here on, the same way each time."""
    scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduling._r.seed(seed)


def measured(name: str, world: World, seeds: int) -> Row:
    landed, red, suites, latencies = list[int](), 0.0, 0.0, list[float]()
    hours = world.hours - world.warm_up
    for seed in range(seeds):
        repeatable(seed)
        sim = trio.run(simulated, name, world, seed, clock=MockClock(autojump_threshold=0))
        late = [(when - sim.done[id]) / MINUTE for id, when in sim.landed_when.items() if when > sim.warm]
        landed.append(len(late))
        latencies += late
        red += sim.red / 3600
        suites += sim.suites
    best = min(world.agent_bound(), world.gate_bound())
    etas = [count / hours / best for count in landed]
    cuts = statistics.quantiles(latencies, n=20) if len(latencies) > 1 else [math.nan] * 19
    return Row(
        name,
        world.agents,
        world.cores,
        world.suite,
        round(sum(landed) / hours / seeds, 1),
        round(statistics.mean(etas), 3),
        round(statistics.stdev(etas) if seeds > 1 else 0.0, 3),
        round(red / hours / seeds, 4),
        round(cuts[9], 1),
        round(cuts[18], 1),
        round(suites / max(sum(landed), 1), 3),
    )


def line(row: Row) -> str:
    return "  ".join(f"{value:>{width}}" for value, width in zip(asdict(row).values(), WIDTHS, strict=True))


CELLS: Final = ((2, 10.0, 16), (16, 10.0, 16), (16, 10.0, 64), (16, 10.0, 256))
WIDTHS: Final = [max(len(name), 16 if name == "scheme" else 7) for name in Row.__annotations__]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m benchmarks.integration --schemes ours serial --cell 16 10 64 --seeds 1",
    )
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--cell", nargs=3, action="append", metavar=("CORES", "SUITE_MIN", "AGENTS"))
    parser.add_argument("--hours", type=float, default=World.hours)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="ours alone, one seed of 18 hours")
    parser.add_argument("--real", action="store_true", help="instead: a small real run beside its own simulation")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    given = parser.parse_args()
    if given.real:
        from benchmarks.integration_real import main as real  # which has this module's simulation

        return real(as_json=given.json)
    if given.quick:
        given.schemes, given.hours, given.seeds = ["ours"], 18.0, 1
    cells = [(int(k), float(c), int(n)) for k, c, n in given.cell] if given.cell else CELLS
    if not given.json:
        say("  ".join(f"{name:>{width}}" for name, width in zip(Row.__annotations__, WIDTHS, strict=True)))
    for cores, suite, agents in cells:
        for name in given.schemes:
            hours = given.hours * max(1, 64 // agents)  # few agents land little: longer, for as small a spread
            row = measured(name, World(agents, cores, suite, hours=hours), given.seeds)
            say(json.dumps(asdict(row)) if given.json else line(row))
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
