"""The simulated world of `benchmarks.integration`: agents' changes, what they break, main, and what judging costs."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel

from orchestrator.records import Change, ChangeState

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
