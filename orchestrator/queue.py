"""The merge queue's policy, the staged ratchet: what is staged, judged, dropped and landed, and nothing else.

No git, no process, no SQL: it works over `Trees`, `Judge`s and a `Book`, so that a simulator drives the same code
(benchmarks/integration.py, which also says what other schemes would do).

A change is merged onto the staging tip, which is main and all that is staged, and tried there by the fast tier. The
gate judges everything staged at once. When cases are lost, these alone are run on the stack's prefixes until each has
its culprit; culprits are bounced, the rest is stacked anew, and only the very tree that passed it all, built cold,
becomes main.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final, Protocol

import anyio

from orchestrator.quoting import visible
from orchestrator.records import Change
from orchestrator.search import first_failing
from orchestrator.signals import Bell
from verifiers.scorecard import Judge, Outcome, Scorecard, Selection, Tier, Tree, Verdict

SHOWN: Final = 5  # files or cases named in a reason
CAP: Final = 256  # changes that one judgement takes
ROUNDS: Final = 2  # failed ones, after which the oldest change is judged alone
PATIENCE: Final = 100  # cases that a tree may lose before the rest of it would teach nothing
REPEATS: Final = 3  # runs of a case that does not answer the same twice
VOIDS: Final = 2  # judgements in a row that said nothing, and pause the gate
VOID_WAIT_S: Final = 60.0
BUILD: Final = "build"  # stands for the build where that is what fails; no case's id, which names its suite first
BROKEN: Final = frozenset({BUILD})

Cases = frozenset[str]
Loss = tuple[str, str, Cases]
"""Why a change bounces: one line, what its submitter may read besides, and the cases that it loses."""


class Void(Exception):
    """A judgement said nothing: the machine's trouble, and nobody's change's."""


@dataclass(frozen=True)
class Conflict:
    """A change that does not merge. `hunks` is what git says, and the difference to the files with both sides in them,
    clipped, for the submitter."""

    files: tuple[str, ...]
    hunks: str

    @property
    def reason(self) -> str:
        return f"conflicts with main in {_some(self.files)}"


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

    async def excused(self) -> Cases:
        """Cases that count for nothing today: known to disagree with themselves on main, or waived."""

    async def staged(self, staged: Staged, onto: Sequence[Staged]) -> None: ...

    async def parked(self, change: Change, conflict: Conflict) -> None: ...

    async def clashed(self, change: Change, conflict: Conflict) -> None:
        """It conflicts with main itself, and bounces."""

    async def bounced(self, change: Change, reason: str, detail: str = "", lost: Collection[str] = ()) -> None: ...

    async def judging(self, stack: Sequence[Staged]) -> None: ...

    async def judged(self, stack: Sequence[Staged], card: Scorecard, lost: Collection[str], seconds: float) -> None:
        """The stack's last tree does not land as it is."""

    async def landed(self, stack: Sequence[Staged], card: Scorecard, seconds: float) -> None:
        """Moves main to the stack's last commit, of which this is the scorecard."""

    async def voided(self, stack: Sequence[Staged], reason: str, wait_s: float) -> None: ...

    async def unsteady(self, cases: Mapping[str, str]) -> None:
        """These cases disagree with themselves on main, as the text of each says: from here on they are excused."""


class Order(Protocol):
    """An order that was recorded, in which a queue stages, judges and lands again."""

    async def admit(self, change: str) -> bool:
        """Returns when it is time for it to be staged, or to bounce if it was not; and which of the two."""

    async def batch(self) -> Sequence[str]:
        """Returns when it is time to judge, with what is judged together, from main on."""

    async def before_bounce(self, changes: Sequence[str]) -> Collection[str]:
        """Returns when it is time for the first of these to bounce, with those that do so then."""

    async def before_landing(self, stack: Sequence[Staged]) -> None:
        """Returns when it is time for these to land, if it is they."""


@dataclass
class Queue:
    """`main` and the cases that pass on it move with each landing. `probes` is how many prefixes are tried at once when
    a culprit is looked for."""

    trees: Trees
    judge: Judge
    fast: Judge  # on the submitters' allowance
    book: Book
    main: str
    passing: Cases
    probes: int = 4
    excused: Cases = frozenset()
    order: Order | None = None
    stack: list[Staged] = field(default_factory=list)
    parked: list[Change] = field(default_factory=list)
    news: Bell = field(default_factory=Bell)
    _stacking: anyio.Lock = field(default_factory=anyio.Lock)
    _voids: int = 0  # in a row

    @property
    def floor(self) -> Cases:
        """The ratchet: what has to pass."""
        return self.passing - self.excused

    @property
    def tip(self) -> str:
        """What the next change is merged onto."""
        return self.stack[-1].commit if self.stack else self.main

    async def submit(self, change: Change) -> None:
        """Stages a change; parks it while it conflicts with staged work alone; bounces it when it conflicts with main
        or loses cases of the fast tier."""
        loss = await self._tried(change)
        if self.order:
            if await self.order.admit(change.id):
                loss = None
            elif loss is None:  # what is below it may be another by now
                loss = await self._tried(change)
        if loss:
            return await self.book.bounced(change, *loss)
        await self.stage(change)

    async def stage(self, change: Change) -> None:
        """Stages a change without the fast tier, as one that an earlier process had staged already."""
        async with self._stacking:
            await self._stage(change)

    async def keep(self) -> None:
        """Judges and lands until cancelled."""
        async for _ in self.news.rings():
            while self.stack:
                await self.cycle()

    async def cycle(self) -> None:
        """Makes at least one staged change terminal, or tells that the judge could say nothing."""
        self.excused = await self.book.excused()
        alone = self._voids >= VOIDS
        size = 1 if alone else min(len(self.stack), CAP)
        try:
            await self._rounds(size)
        except Void as void:
            if alone and await self._main_can_be_judged():
                words = f"cannot be judged, while main can: {void}"
                await self._drop(1, {0: (words, "Something in it keeps the judge from its end.", frozenset())})
            else:
                self._voids += 1
                wait_s = VOID_WAIT_S if self._voids >= VOIDS else 0.0
                await self.book.voided(self.stack[:size], str(void), wait_s)
                return await anyio.sleep(wait_s)
        self._voids = 0

    async def _rounds(self, size: int) -> None:
        for failed in range(ROUNDS + 1):
            size = size if failed < ROUNDS else 1
            size = await self._in_order(self.order) if self.order else size
            if not size:
                return
            batch, began = self.stack[:size], anyio.current_time()
            await self.book.judging(batch)
            lost, card, unsteady = await self._full(batch[-1].tree)
            if not lost:
                card = await self._gained(batch[-1].tree, card)
                if self.order:
                    await self.order.before_landing(batch)
                return await self._land(size, card, began)
            await self.book.judged(batch, card, lost - BROKEN, anyio.current_time() - began)
            size = await self._drop(size, await self._culprits(size, lost, unsteady, card))
            if not size:
                return

    async def _in_order(self, order: Order) -> int:
        """Stacks what the order judges next at the bottom, where an earlier process may have left it otherwise; returns
        how many that are."""
        together = list(await order.batch())
        if together != [one.change.id for one in self.stack[: len(together)]]:
            async with self._stacking:
                changes, self.stack, self.parked = [*(one.change for one in self.stack), *self.parked], [], []
                places = {id: place for place, id in enumerate(together)}
                await self._restage(sorted(changes, key=lambda change: places.get(change.id, len(places))))
        return len(list(takewhile(lambda one: one.change.id in together, self.stack))) or len(self.stack)

    async def _main_can_be_judged(self) -> bool:
        return not (await self.judge.judge(await self.trees.tree(self.main), Selection(cold=True))).void

    # What is on the stack

    async def _stage(self, change: Change) -> None:
        placed = await self.trees.put(change, self.tip)
        if isinstance(placed, Staged):
            await self.book.staged(placed, self.stack)
            self.stack.append(placed)
            self.news.ring()
            return
        alone = await self.trees.put(change, self.main) if self.stack else placed
        if isinstance(alone, Conflict):
            if self.order:
                await self.order.before_bounce([change.id])
            await self.book.clashed(change, alone)
        else:
            await self.book.parked(change, placed)
            self.parked.append(change)

    async def _drop(self, size: int, culprits: Mapping[int, Loss]) -> int:
        """Bounces the culprits, by their place on the stack, with reason, detail and cases; stacks what stood above
        the lowest anew, then tries those that were parked. Returns how many of the batch are left, at the bottom."""
        if self.order:
            ends = await self.order.before_bounce([self.stack[place].change.id for place in culprits])
            culprits = {place: loss for place, loss in culprits.items() if self.stack[place].change.id in ends}
        async with self._stacking:
            for place, (reason, detail, lost) in sorted(culprits.items()):
                await self.book.bounced(self.stack[place].change, reason, detail, lost)
            batch = {one.change.id for place, one in enumerate(self.stack[:size]) if place not in culprits}
            kept = [one.change for place, one in enumerate(self.stack) if place not in culprits]
            self.stack, again = self.stack[: min(culprits)], kept[min(culprits) :]
            await self._restage(again)
            return len(list(takewhile(lambda one: one.change.id in batch, self.stack)))

    async def _restage(self, changes: Iterable[Change] = ()) -> None:
        """Stages these, then those that were parked."""
        parked, self.parked = self.parked, []
        for change in (*changes, *parked):
            await self._stage(change)

    async def _land(self, size: int, card: Scorecard, began: float) -> None:
        async with self._stacking:
            landing = self.stack[:size]
            await self.book.landed(landing, card, anyio.current_time() - began)
            self.stack = self.stack[size:]
            self.main, self.passing = landing[-1].commit, card.passed()
            await self._restage()

    # What it loses

    async def _tried(self, change: Change) -> Loss | None:
        """What the fast tier says against a change on the staging tip. One that does not merge, or of which the judge
        says nothing, is not tried: the gate alone says what it loses."""
        below = self.tip
        placed = await self.trees.put(change, below)
        if isinstance(placed, Conflict):
            return None
        self.excused = await self.book.excused()
        try:
            lost, card = await self._fast(placed, below)
        except Void:
            return None
        return _loss(lost, card) if lost else None

    async def _fast(self, placed: Staged, below: str) -> tuple[Cases, Scorecard]:
        """What a change loses in the fast tier on the staging tip, twice, and what is below it does not lose."""
        card = await _judged(self.fast, placed.tree, Selection(Tier.FAST, seed=placed.change.seat))
        lost = _lost(card, self.floor & card.verdicts.keys()) if card.build.ok else BROKEN
        if lost - BROKEN:
            lost = _lost(await _judged(self.fast, placed.tree, _only(lost, anew=True)), lost)
        if lost:
            lost -= _lost(await _judged(self.fast, await self.trees.tree(below), _only(lost)), lost)
        return lost, card

    async def _full(self, tree: Tree) -> tuple[Cases, Scorecard, Cases]:
        """What the tree loses, its scorecard, and which of the lost cases pass sometimes. Nothing of it comes from a
        cache.

        A case is lost when it fails twice, the second time with the failed ones alone. One that passes then was only
        late, or disagrees with itself on main as well and is excused from now on; else it became unsteady with the
        tree, and is lost.
        """
        whole = Selection(Tier.FULL, cold=True, floor=self.floor, patience=PATIENCE)
        card = await _judged(self.judge, tree, whole)
        lost = frozenset(card.failed(self.floor)) if card.build.ok else BROKEN
        if not lost or lost == BROKEN:
            return lost, card, frozenset()
        again = await _judged(self.judge, tree, _only(lost, anew=True))
        late = {case for case, verdict in card.verdicts.items() if verdict.outcome is Outcome.TIMEOUT}
        unsteady = (again.passed() & lost) - late
        if unsteady:
            main = await self.trees.tree(self.main)
            flaky, _ = await self._failing(main, unsteady, unsteady)
            if flaky:
                words = f"passed and failed on main {self.main[:7]}"
                await self.book.unsteady(dict.fromkeys(sorted(flaky), words))
                self.excused |= flaky
                lost, unsteady = lost - flaky, unsteady - flaky
        slow = again.passed() & late
        if card.stopped and not lost - slow:
            raise Void(f"stopped ({card.stopped}), though each of these passes alone")
        card = replace(card, verdicts={**card.verdicts, **{case: again.verdicts[case] for case in slow}})
        return lost - slow, card, unsteady

    async def _gained(self, tree: Tree, card: Scorecard) -> Scorecard:
        """The scorecard with those new passes alone that pass a second time: what passes by chance would hold up every
        change after it."""
        gained = card.passed() - self.passing
        if not gained:
            return card
        again = await _judged(self.judge, tree, _only(gained, anew=True))
        chance = {case: again.verdicts.get(case, Verdict(case, Outcome.MISSING)) for case in gained - again.passed()}
        return replace(card, verdicts={**card.verdicts, **chance})

    async def _failing(self, tree: Tree, cases: Cases, unsteady: Cases) -> tuple[Cases, Scorecard]:
        """Which of the cases fail, an unsteady one in any of several runs; and the scorecard that shows it."""
        card = await _judged(self.judge, tree, _only(cases, anew=bool(cases & unsteady)))
        failing = _lost(card, cases)
        for _ in range(1, REPEATS):
            if asked := (cases & unsteady) - failing:
                again = await _judged(self.judge, tree, _only(asked, anew=True))
                card = replace(card, verdicts={**card.verdicts, **again.verdicts})
                failing |= _lost(again, asked)
        return failing, card

    async def _culprits(self, size: int, lost: Cases, unsteady: Cases, card: Scorecard) -> dict[int, Loss]:
        """Which changes of the batch lost the cases, by place on the stack: at the first prefix that fails each.
        `card` is the whole batch's."""
        stack, cards = self.stack[:size], {size: card}

        async def failing(prefix: int, asked: Cases) -> Cases:
            found, cards[prefix] = await self._failing(stack[prefix - 1].tree, asked, unsteady)
            return found

        losses: dict[int, Loss] = {}
        found = await first_failing(lost, size, self.probes, failing)
        if unsteady:  # what such a change lost may have passed a probe by luck: those above it are not blamed for that
            found = {min(found): found[min(found)]}
        for prefix, cases in found.items():
            reason, detail, named = _loss(cases, cards[prefix])
            good = " + ".join(["main", *(one.change.id for one in stack[: prefix - 1])])
            losses[prefix - 1] = (reason, f"judged on {good}, which is well\n{detail}", named)
        return losses


async def _judged(judge: Judge, tree: Tree, selection: Selection) -> Scorecard:
    """Raises `Void`."""
    card = await judge.judge(tree, selection)
    if card.void:
        raise Void(card.void)
    return card


def _only(cases: Cases, *, anew: bool = False) -> Selection:
    return Selection(Tier.CASES, cases - BROKEN, anew=anew)


def _lost(card: Scorecard, asked: Cases) -> Cases:
    """Which of the cases asked for the scorecard does not show as passing: all of them when nothing was built."""
    return asked - card.passed() - BROKEN if card.build.ok else asked


def _loss(lost: Cases, card: Scorecard) -> Loss:
    if BUILD in lost:
        return f"does not build: {card.build.reason}", card.build.log_tail, lost - BROKEN
    named = sorted(lost)
    return f"loses {_some(named)}", "\n".join(error_line(case, card) for case in named[: 2 * SHOWN]), lost


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def error_line(case: str, card: Scorecard) -> str:
    """Why a case does not pass, as agents read it."""
    verdict = card.verdicts.get(case)
    return f"ERROR {case}: {visible(verdict.reason) or verdict.outcome.name.lower() if verdict else 'gone'}"
