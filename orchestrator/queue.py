"""The merge queue's policy, the staged ratchet: what is staged, judged, dropped and landed, and nothing else.

No git, no process, no SQL: it works over `Trees`, `Judge`s and a `Book`, so that a simulator drives the same code
(benchmarks/integration.py, which also says what other schemes would do).

A change is merged onto the staging tip, which is main and all that is staged, and tried there by the fast tier. The
gate judges everything staged at once. When cases are lost, these alone are run on the stack's prefixes until each has
its culprit; culprits are bounced, the rest is stacked anew, and only the very tree that passed it all becomes main.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final, Protocol

import anyio

from orchestrator.records import Change
from orchestrator.signals import Bell
from verifiers.scorecard import Judge, Outcome, Scorecard, Selection, Tier, Tree, Verdict

SHOWN: Final = 5  # files or cases named in a reason
CAP: Final = 256  # changes that one judgement takes
ROUNDS: Final = 2  # failed ones, after which the oldest change is judged alone
REPEATS: Final = 3  # runs of a case that does not answer the same twice
VOIDS: Final = 2  # judgements in a row that said nothing, and pause the gate
VOID_WAIT_S: Final = 60.0
BUILD: Final = "build"  # stands for the build where that is what fails; no case's id, which names its suite first
BROKEN: Final = frozenset({BUILD})

Cases = frozenset[str]


class Void(Exception):
    """A judgement said nothing: the machine's trouble, and nobody's change's."""


@dataclass(frozen=True)
class Conflict:
    """A change that does not merge. `hunks` is what git says, and main's difference to the files with both sides in
    them, clipped, for the submitter."""

    files: tuple[str, ...]
    hunks: str


@dataclass(frozen=True)
class Staged:
    """A change on the stack: the commit that main will be when it and everything below it have landed."""

    change: Change
    commit: str
    tree: Tree


class Trees(Protocol):
    async def put(self, change: Change, onto: str) -> Staged | Conflict:
        """The change as one commit on `onto`, which is main or a commit of the stack."""

    async def tree(self, commit: str) -> Tree: ...


class Book(Protocol):
    """Where what becomes of changes is written down: durable when a call returns."""

    async def staged(self, staged: Staged) -> None: ...

    async def parked(self, change: Change, clash: Conflict) -> None: ...

    async def bounced(self, change: Change, reason: str, detail: str = "", lost: Collection[str] = ()) -> None: ...

    async def landed(self, stack: Sequence[Staged], card: Scorecard) -> None:
        """Moves main to the stack's last commit, of which this is the scorecard."""

    async def voided(self, changes: Sequence[Change], reason: str) -> None: ...

    async def unsteady(self, cases: Collection[str]) -> None:
        """These cases disagree with themselves on main: they count for nothing from here on."""


@dataclass
class Queue:
    """`main` and `floor`, the cases that it passes, move with each landing. `probes` is how many prefixes are tried at
    once when a culprit is looked for."""

    trees: Trees
    judge: Judge
    fast: Judge  # on the submitters' allowance
    book: Book
    main: str
    floor: Cases
    probes: int = 4
    quarantined: Cases = frozenset()
    stack: list[Staged] = field(default_factory=list)
    parked: list[Change] = field(default_factory=list)
    news: Bell = field(default_factory=Bell)
    _stacking: anyio.Lock = field(default_factory=anyio.Lock)
    _voids: int = 0  # in a row

    @property
    def tip(self) -> str:
        """What the next change is merged onto."""
        return self.stack[-1].commit if self.stack else self.main

    async def submit(self, change: Change) -> None:
        """Stages a change; parks it while it conflicts with staged work alone; bounces it when it conflicts with main
        or loses cases of the fast tier."""
        below = self.tip
        placed = await self.trees.put(change, below)
        if isinstance(placed, Staged):
            try:
                lost, card = await self._fast(placed, below)
            except Void:  # then the gate alone says what it loses
                lost = frozenset()
            if lost:
                return await self.book.bounced(change, f"loses {_some(sorted(lost))}", _reasons(lost, card), lost)
        async with self._stacking:
            await self._stage(change)

    async def keep(self) -> None:
        """Judges and lands until cancelled."""
        async for _ in self.news.rings():
            while self.stack:
                batch = [one.change for one in self.stack[:CAP]]
                try:
                    await self.cycle()
                    self._voids = 0
                except Void as void:
                    self._voids += 1
                    await self.book.voided(batch, str(void))
                    await anyio.sleep(VOID_WAIT_S if self._voids >= VOIDS else 0)

    async def cycle(self) -> None:
        """Makes at least one staged change terminal. Raises `Void` when the judge can say nothing."""
        size = min(len(self.stack), CAP)
        for failed in range(ROUNDS + 1):
            size = size if failed < ROUNDS else 1
            lost, card, unsteady = await self._full(self.stack[size - 1].tree, cold=failed > 0)
            if not lost:
                return await self._land(size, await self._twice(self.stack[size - 1].tree, card))
            size = await self._drop(size, await self._culprits(size, lost, unsteady), card)
            if not size:
                return

    # What is on the stack

    async def _stage(self, change: Change) -> None:
        placed = await self.trees.put(change, self.tip)
        if isinstance(placed, Staged):
            self.stack.append(placed)
            await self.book.staged(placed)
            self.news.ring()
            return
        alone = await self.trees.put(change, self.main) if self.stack else placed
        if isinstance(alone, Conflict):
            await self.book.bounced(change, f"conflicts with main in {_some(alone.files)}", alone.hunks)
        else:
            self.parked.append(change)
            await self.book.parked(change, placed)

    async def _restack(self, kept: Iterable[Staged], parked: Iterable[Change]) -> None:
        """Stacks changes anew on main, then tries those that were parked."""
        self.stack, self.parked = [], []
        for change in (*(one.change for one in kept), *parked):
            await self._stage(change)

    async def _drop(self, size: int, culprits: Mapping[str, Cases], card: Scorecard) -> int:
        """Bounces the culprits with the cases that each lost. Returns how many of the batch are left, at the bottom of
        the stack."""
        async with self._stacking:
            for one in self.stack[:size]:
                if lost := culprits.get(one.change.id):
                    broke = BUILD in lost
                    reason = f"does not build: {card.build.reason}" if broke else f"loses {_some(sorted(lost))}"
                    detail = card.build.log_tail if broke else _reasons(lost, card)
                    await self.book.bounced(one.change, reason, detail, lost - BROKEN)
            batch = {one.change.id for one in self.stack[:size]} - culprits.keys()
            await self._restack((one for one in list(self.stack) if one.change.id not in culprits), list(self.parked))
            return len(list(takewhile(lambda one: one.change.id in batch, self.stack)))

    async def _land(self, size: int, card: Scorecard) -> None:
        async with self._stacking:
            landing, self.stack = self.stack[:size], self.stack[size:]
            await self.book.landed(landing, card)
            self.main, self.floor = landing[-1].commit, card.passed() - self.quarantined
            parked, self.parked = self.parked, []
            for change in parked:
                await self._stage(change)

    # What it loses

    async def _fast(self, placed: Staged, below: str) -> tuple[Cases, Scorecard]:
        """What a change loses in the fast tier on the staging tip, and what is below it does not lose without it."""
        card = await _judged(self.fast, placed.tree, Selection(Tier.FAST, seed=placed.change.seat))
        lost = _lost(card, self.floor & card.verdicts.keys()) if card.build.ok else BROKEN
        if lost:
            lost -= _lost(await _judged(self.fast, await self.trees.tree(below), _only(lost)), lost)
        return lost, card

    async def _full(self, tree: Tree, *, cold: bool) -> tuple[Cases, Scorecard, Cases]:
        """What the tree loses, its scorecard, and which of the lost cases pass sometimes.

        A case is lost when it fails twice, the second time with the failed ones alone and cold. One that passes then
        was only late, or disagrees with itself on main as well and is quarantined; else it became unsteady with the
        tree, and is lost.
        """
        card = await _judged(self.judge, tree, Selection(Tier.FULL, cold=cold))
        lost = _lost(card, self.floor) if card.build.ok else BROKEN
        if not lost or lost == BROKEN:
            return lost, card, frozenset()
        again = await _judged(self.judge, tree, _only(lost))
        late = {case for case, verdict in card.verdicts.items() if verdict.outcome is Outcome.TIMEOUT}
        unsteady = (again.passed() & lost) - late
        if unsteady:
            main = await self.trees.tree(self.main)
            if flaky := await self._failing(main, unsteady, unsteady):
                await self.book.unsteady(flaky)
                self.quarantined, self.floor = self.quarantined | flaky, self.floor - flaky
                lost, unsteady = lost - flaky, unsteady - flaky
        slow = again.passed() & late
        card = replace(card, verdicts={**card.verdicts, **{case: again.verdicts[case] for case in slow}})
        return lost - slow, card, unsteady

    async def _twice(self, tree: Tree, card: Scorecard) -> Scorecard:
        """The scorecard, in which a case gained counts only if it passes a second time: what passes by chance would
        hold up every change after it."""
        gained = card.passed() - self.floor - self.quarantined
        if not gained:
            return card
        again = await _judged(self.judge, tree, Selection(Tier.CASES, gained))
        chance = {case: again.verdicts.get(case, Verdict(case, Outcome.MISSING)) for case in gained - again.passed()}
        return replace(card, verdicts={**card.verdicts, **chance})

    async def _failing(self, tree: Tree, cases: Cases, unsteady: Cases) -> Cases:
        """Which of the cases fail; an unsteady one, in any of several runs."""
        failing, asked = frozenset[str](), cases
        for _ in range(REPEATS):
            failing |= _lost(await _judged(self.judge, tree, _only(asked)), asked)
            if not (asked := (asked & unsteady) - failing):
                break
        return failing

    async def _culprits(self, size: int, lost: Cases, unsteady: Cases) -> dict[str, Cases]:
        """Which changes of the batch lost the cases: for each case the first prefix of the stack that fails it. All
        cases share the probes, and none of them is run where its answer is known."""
        bounds = dict.fromkeys(lost, (0, size))  # the case passes on so many changes, and fails on so many
        while places := _between(bounds.values(), self.probes):
            failing: dict[int, Cases] = {}

            async def probe(place: int, failing: dict[int, Cases] = failing) -> None:
                asked = frozenset(case for case, (passes, fails) in bounds.items() if passes < place < fails)
                failing[place] = await self._failing(self.stack[place - 1].tree, asked, unsteady)

            try:
                async with anyio.create_task_group() as tasks:
                    for place in places:
                        tasks.start_soon(probe, place)
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            for case, (passes, fails) in bounds.items():
                tried = [place for place in places if passes < place < fails]
                fails = min((place for place in tried if case in failing[place]), default=fails)
                passes = max((place for place in tried if place < fails), default=passes)
                bounds[case] = (passes, fails)
        found: dict[str, Cases] = {}
        for case, (_, fails) in bounds.items():
            change = self.stack[fails - 1].change.id
            found[change] = found.get(change, frozenset()) | {case}
        return found


async def _judged(judge: Judge, tree: Tree, selection: Selection) -> Scorecard:
    """Raises `Void`."""
    card = await judge.judge(tree, selection)
    if card.void:
        raise Void(card.void)
    return card


def _only(cases: Cases) -> Selection:
    return Selection(Tier.CASES, cases - BROKEN, cold=True)


def _lost(card: Scorecard, asked: Cases) -> Cases:
    """Which of the cases asked for the scorecard does not show as passing: all of them when nothing was built."""
    return asked - card.passed() - BROKEN if card.build.ok else asked


def _between(bounds: Iterable[tuple[int, int]], most: int) -> list[int]:
    """At most so many places, evenly among all that lie inside of the bounds."""
    inside = sorted({place for low, high in bounds for place in range(low + 1, high)})
    count = min(most, len(inside))
    return [inside[len(inside) * (2 * n + 1) // (2 * count)] for n in range(count)]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _reasons(lost: Cases, card: Scorecard) -> str:
    found = {case: card.verdicts.get(case) for case in sorted(lost)[: 2 * SHOWN]}
    return "\n".join(
        f"ERROR {case}: {verdict.reason or verdict.outcome.name.lower() if verdict else 'gone'}"
        for case, verdict in found.items()
    )
