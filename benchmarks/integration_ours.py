"""Our own scheme in the simulated world: orchestrator/queue.py itself over simulated trees and judges."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

import anyio
import anyio.abc
import anyio.lowlevel

from benchmarks.integration_schemes import Integration
from benchmarks.integration_world import MINUTE, SimTree, Simulation, Work
from orchestrator.queue import Conflict, Queue, Staged
from orchestrator.records import Change
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict


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
