"""The laws of the merge queue, whatever is submitted in whatever order: what lands is what was judged, the ratchet
holds, every change comes to one end, and nobody pays for another's breakage."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.queue import Conflict, Queue, Staged
from orchestrator.records import Change, ChangeState
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tier, Tree, Verdict

CASES = [f"s/{number}" for number in range(12)]


@dataclass(frozen=True)
class Sort:
    """What a change is like. It touches files, loses cases alone, breaks `together` with an earlier change, does not
    build, or makes a case fail every other time."""

    files: frozenset[str] = frozenset()
    loses: frozenset[str] = frozenset()
    together: str = ""
    builds: bool = True
    unsteady: str = ""

    @property
    def innocent(self) -> bool:
        return self.builds and not (self.loses or self.together or self.unsteady)


@dataclass(frozen=True)
class MadeTree:
    """The changes in it, in order."""

    holds: tuple[str, ...]

    @property
    def id(self) -> str:
        return "/".join(self.holds)

    def tar(self) -> AsyncIterator[bytes]:
        raise AssertionError("nobody looks into it")


@dataclass
class Yard:
    """Trees, judges and book of a queue in memory."""

    sorts: dict[str, Sort]
    dice: random.Random
    flaky: frozenset[str] = frozenset()
    void_share: float = 0.0
    ends: dict[str, list[str]] = field(default_factory=dict)
    landed_trees: list[tuple[str, ...]] = field(default_factory=list)
    cards: list[Scorecard] = field(default_factory=list)
    lost: dict[str, Collection[str]] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)  # trees that a full judgement passed or failed
    runs: dict[tuple[str, str], int] = field(default_factory=dict)  # of an unsteady case on a tree

    def truly_lost(self, tree: MadeTree) -> set[str]:
        """Without luck: `unsteady` cases are not in it."""
        if not all(self.sorts[id].builds for id in tree.holds):
            return set(CASES)
        found: set[str] = set()
        for place, id in enumerate(tree.holds):
            sort = self.sorts[id]
            found |= sort.loses | ({sort.together} if sort.together and place else set())
        return found

    # Trees

    async def put(self, change: Change, onto: str) -> Staged | Conflict:
        below = tuple(filter(None, onto.split("/")))
        base = tuple(filter(None, change.base.split("/")))
        others = [id for id in below if id not in base]
        if torn := [f for id in others for f in self.sorts[id].files & self.sorts[change.id].files]:
            return Conflict(tuple(sorted(set(torn))), "both sides")
        tree = MadeTree((*below, change.id))
        return Staged(change, tree.id, tree)

    async def tree(self, commit: str) -> Tree:
        return MadeTree(tuple(filter(None, commit.split("/"))))

    # Judge

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        assert isinstance(tree, MadeTree)
        await anyio.lowlevel.checkpoint()
        if self.dice.random() < self.void_share:
            return Scorecard(tree.id, selection.tier, Build(True, 0.0), void="the machine is tired")
        asked: Collection[str] = CASES if selection.tier is Tier.FULL else selection.cases
        if selection.tier is Tier.FAST:
            asked = random.Random(selection.seed).sample(CASES, 3)
        if not all(self.sorts[id].builds for id in tree.holds):
            return Scorecard(tree.id, selection.tier, Build(False, 0.0, "error: no"))
        lost = self.truly_lost(tree)
        for case in sorted({self.sorts[id].unsteady for id in tree.holds} & set(asked)):
            self.runs[tree.id, case] = self.runs.get((tree.id, case), 0) + 1
            lost |= {case} if self.runs[tree.id, case] % 2 else set()  # fails, passes, fails, …
        lost |= {case for case in self.flaky if self.dice.random() < 0.7}
        self.tried |= {tree.id} if selection.tier is Tier.FULL else set()
        verdicts = {case: Verdict(case, Outcome.FAIL if case in lost else Outcome.PASS) for case in asked}
        return Scorecard(tree.id, selection.tier, Build(True, 0.0), verdicts)

    # Book

    async def excused(self) -> frozenset[str]:
        return frozenset(self.quarantined)

    async def unsteady(self, cases: Mapping[str, str]) -> None:
        self.quarantined |= cases.keys()

    async def staged(self, staged: Staged, onto: Sequence[Staged]) -> None: ...

    async def parked(self, change: Change, conflict: Conflict) -> None: ...

    async def judging(self, stack: Sequence[Staged]) -> None: ...

    async def judged(self, stack: Sequence[Staged], card: Scorecard, lost: Collection[str], seconds: float) -> None: ...

    async def voided(self, stack: Sequence[Staged], reason: str, wait_s: float) -> None: ...

    async def clashed(self, change: Change, conflict: Conflict) -> None:
        await self.bounced(change, conflict.reason)

    async def bounced(self, change: Change, reason: str, detail: str = "", lost: Collection[str] = ()) -> None:
        self.ends.setdefault(change.id, []).append(f"bounced: {reason}")
        self.lost[change.id] = lost

    async def landed(self, stack: Sequence[Staged], card: Scorecard, seconds: float) -> None:
        assert card.tree == stack[-1].tree.id
        assert stack[-1].tree.id in self.tried
        tree = stack[-1].tree
        assert isinstance(tree, MadeTree)
        for one in stack:
            self.ends.setdefault(one.change.id, []).append("landed")
        assert [id for id in tree.holds if self.ends.get(id) != ["landed"]] == []
        self.landed_trees.append(tree.holds)
        self.cards.append(card)


def change(id: str, base: str = "") -> Change:
    at = datetime(2000, 1, 1, tzinfo=UTC)
    return Change(id, f"seat-{id}/1", f"seat-{id}", "", ChangeState.QUEUED, at, base, id, "", "")


async def drive(yard: Yard, ids: Sequence[str], pauses: Sequence[int]) -> Queue:
    """Submits the changes at such moments, and lets the queue work until it is quiet."""
    queue = Queue(yard, yard, yard, yard, "", frozenset(CASES), probes=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.keep)
        for id, pause in zip(ids, pauses, strict=True):
            for _ in range(pause):
                await anyio.lowlevel.checkpoint()
            await queue.submit(change(id, queue.main))
        with anyio.fail_after(20):
            while queue.stack or queue.parked:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return queue


SORTS = st.builds(
    Sort,
    files=st.frozensets(st.sampled_from("abcd"), max_size=1),
    loses=st.frozensets(st.sampled_from(CASES), max_size=2),
    together=st.sampled_from(["", "", "", *CASES[:2]]),
    builds=st.sampled_from([True, True, True, True, False]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SORTS, st.integers(0, 30)), min_size=1, max_size=12), st.integers(0, 9))
def test_every_change_has_one_end_and_main_never_breaks(work: list[tuple[Sort, int]], seed: int) -> None:
    sorts = {f"C{n}": sort for n, (sort, _) in enumerate(work)}
    yard = Yard(sorts, random.Random(seed))
    queue = anyio.run(drive, yard, list(sorts), [pause for _, pause in work])
    assert {id: len(ends) for id, ends in yard.ends.items()} == dict.fromkeys(sorts, 1)
    assert all(not yard.truly_lost(MadeTree(tree)) for tree in yard.landed_trees)
    assert all(card.passed() >= frozenset(CASES) for card in yard.cards)
    assert queue.main == "/".join(yard.landed_trees[-1] if yard.landed_trees else ())
    # A landing adds to what had landed before and drops nothing of it.
    for before, after in zip(yard.landed_trees, yard.landed_trees[1:], strict=False):
        assert after[: len(before)] == before
    for id, sort in sorts.items():
        if sort.innocent and not sort.files:
            assert yard.ends[id] == ["landed"]
        if not yard.ends[id][0].startswith(("landed", "bounced: conflicts")):
            blamed = set(yard.lost[id])
            assert blamed <= sort.loses | {sort.together} or not sort.builds


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(CASES[:4]), min_size=1, max_size=4, unique=True), st.integers(0, 99))
def test_a_case_that_a_change_makes_unsteady_never_lands(shaky: list[str], seed: int) -> None:
    sorts = {f"C{n}": Sort(unsteady=case) for n, case in enumerate(shaky)} | {"C9": Sort(), "C10": Sort()}
    yard = Yard(sorts, random.Random(seed))
    anyio.run(drive, yard, list(sorts), [2] * len(sorts))
    assert yard.quarantined == set()
    assert {id: ends[0].split(":")[0] for id, ends in yard.ends.items()} == {
        id: "bounced" if sort.unsteady else "landed" for id, sort in sorts.items()
    }


class Luck(Yard):
    """`C0` makes two cases unsteady: of the whole stack one passes the second time and the other does not; of `C0`
    alone it is the other way round."""

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        assert isinstance(tree, MadeTree)
        failing = {("C0",): {"s/0"}, ("C0", "C1"): {"s/1"}}.get(tree.holds, set())
        if selection.tier is Tier.FAST or "C0" not in tree.holds:
            failing = set()
        elif selection.tier is Tier.FULL:
            failing = {"s/0", "s/1"}
        asked = CASES if selection.tier is Tier.FULL else selection.cases
        self.tried |= {tree.id} if selection.tier is Tier.FULL else set()
        verdicts = {case: Verdict(case, Outcome.FAIL if case in failing else Outcome.PASS) for case in asked}
        return Scorecard(tree.id, selection.tier, Build(True, 0.0), verdicts)


def test_nobody_is_blamed_for_what_an_unsteady_change_below_passed_by_luck() -> None:
    yard = Luck({"C0": Sort(), "C1": Sort()}, random.Random(0))

    async def both() -> None:
        queue = Queue(yard, yard, yard, yard, "", frozenset(CASES))
        for id in yard.sorts:
            await queue.submit(change(id))
        while queue.stack:
            await queue.cycle()

    anyio.run(both)
    assert {id: ends[0].split(":")[0] for id, ends in yard.ends.items()} == {"C0": "bounced", "C1": "landed"}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 999))
def test_what_is_unsteady_on_main_is_quarantined_and_blames_nobody_for_long(seed: int) -> None:
    sorts = {f"C{n}": Sort() for n in range(6)}
    yard = Yard(sorts, random.Random(seed), flaky=frozenset(CASES[:1]))
    anyio.run(drive, yard, list(sorts), [1] * 6)
    assert yard.quarantined <= {CASES[0]}
    assert {id: len(ends) for id, ends in yard.ends.items()} == dict.fromkeys(sorts, 1)


class Thirds(random.Random):
    """The first number of three is low: in whatever order tasks run, no judgement is void again and again."""

    drawn = -1

    def random(self) -> float:
        self.drawn += 1
        return float(self.drawn % 3 > 0)


@pytest.mark.anyio
async def test_a_void_judgement_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.queue.VOID_WAIT_S", 0)
    sorts = {"C0": Sort(), "C1": Sort(loses=frozenset(CASES[:1])), "C2": Sort()}
    yard = Yard(sorts, Thirds(), void_share=0.5)
    await drive(yard, list(sorts), [1, 1, 1])
    assert {id: ends[0].split(":")[0] for id, ends in yard.ends.items()} == {
        "C0": "landed",
        "C1": "bounced",
        "C2": "landed",
    }
