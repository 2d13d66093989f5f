"""The gate: judges what is queued, one change at a time, and moves main.

git and SQLite are two authorities, so landing is: intent stored (old, new, change, scorecard) → compare-and-swap of
main → marked landed. `recover` finishes what a crash left between any two of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio

from orchestrator import board, clusters
from orchestrator.queue import Clash, Fate, Ruling, Stacked, rule
from orchestrator.records import Change, ChangeState
from orchestrator.repository import Conflict, Repository
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, changes
from verifiers.judging import Judge, OnVerdict, Selection, Tier
from verifiers.scorecard import Ratchet, Scorecard
from verifiers.signature import signature

VOIDS: Final = 2  # in a row pause the gate
VOID_WAIT_S: Final = 60.0


class SeedNotJudged(Exception):
    """The first main does not build, or its judgement says nothing: the run cannot begin."""


@dataclass(frozen=True)
class MergedTrees:
    """`queue.Trees` over the run's bare repository."""

    repository: Repository

    async def stack(self, main: str, change: Change) -> Stacked | Clash:
        merged = await self.repository.merge(main, change.commit)
        if isinstance(merged, Conflict):
            return Clash(merged.files, merged.hunks)
        return Stacked(self.repository.tree(merged), main)


class Gate:
    """The one lane that lands changes. `queued` rings when a change was submitted, `moved` when one came to its end."""

    def __init__(
        self, store: Store, repository: Repository, judge: Judge, run: str, utc_now: Callable[[], datetime]
    ) -> None:
        self.queued = Bell()
        self.moved = Bell()
        self._store = store
        self._repository = repository
        self._judge = judge
        self._run = run
        self._utc_now = utc_now
        self._newest: dict[str, Scorecard] = {}  # of main as it is, by commit: asked for far more often than it moves

    async def recover(self) -> None:
        """Finishes a landing that a crash cut, and puts half-judged changes back in the queue."""
        landing = await self._store.read(changes.open_landing)
        if landing is not None:
            change = await self._store.read(lambda db: changes.get(db, landing.change))
            if await self._repository.landed(landing.old, landing.new):
                await self._mark_landed(change, landing.new)
            else:
                await self._store.write(lambda tx: changes.forget_intent(tx, landing.change))

        def requeue(tx: Tx) -> None:
            for change in changes.live(tx.db):
                changes.move(tx, change.id, ChangeState.QUEUED)

        await self._store.write(requeue)

    async def judge_main(self) -> Scorecard:
        """Main's scorecard; the seed is judged here before anything else happens. Raises `SeedNotJudged`."""
        main = await self._repository.main()
        if self._newest.get(main) is None:
            self._newest = {main: await self._stored_or_judged(main)}
        return self._newest[main]

    async def _stored_or_judged(self, main: str) -> Scorecard:
        known = await self._store.read(lambda db: changes.scorecard_of(db, main))
        if known is not None:
            return known
        tree = self._repository.tree(await self._repository.tree_of(main))
        card = await self._judge.judge(tree, Selection())
        if card.void:
            raise SeedNotJudged(f"main at {main[:10]} could not be judged: {card.void}")
        if not card.build.ok:
            raise SeedNotJudged(f"main at {main[:10]} does not build: {card.build.reason}")

        def work(tx: Tx) -> None:
            changes.add_scorecard(tx, card, commit=main)
            update_board(tx, card)

        await self._store.write(work)
        return card

    async def keep(self, on_verdict: OnVerdict | None = None) -> None:
        """Judges and lands until cancelled. Every change it takes comes to an end, or the gate says why it waits."""
        voids = 0
        while True:
            heard = self.queued.heard
            waiting = await self._store.read(changes.live)
            if not waiting:
                await self.queued.wait(heard)
                continue
            ruling = await self.settle(waiting[0], on_verdict)
            voids = voids + 1 if ruling.fate is Fate.VOID else 0
            if voids >= VOIDS:
                reason = (
                    f"{voids} judgements in a row said nothing ({ruling.reason}); tried again in {VOID_WAIT_S:.0f} s"
                )
                await self._store.write(lambda tx, reason=reason: tx.journal("gate-paused", reason=reason))  # type: ignore[misc]
                await anyio.sleep(VOID_WAIT_S)

    async def settle(self, change: Change, on_verdict: OnVerdict | None = None) -> Ruling:
        """Judges one change and does what the ruling says."""
        main = await self._repository.main()
        floor = await self.judge_main()

        def begin(tx: Tx) -> None:
            changes.move(tx, change.id, ChangeState.JUDGING)
            tx.journal("judging", changes=[change.id], main=main, tier="full")

        await self._store.write(begin)
        began = anyio.current_time()
        trees = MergedTrees(self._repository)
        ruling = await rule(change, main, Ratchet(floor.passed()), trees, self._judge, on_verdict)
        seconds = anyio.current_time() - began
        match ruling.fate:
            case Fate.LAND:
                await self._land(change, ruling, seconds)
            case Fate.BOUNCE:
                await self._bounce(change, ruling, seconds)
            case Fate.VOID:
                await self._put_back(change, ruling)
        self.moved.ring()
        return ruling

    async def _land(self, change: Change, ruling: Ruling, seconds: float) -> None:
        assert ruling.stacked is not None and ruling.card is not None
        card, stacked = ruling.card, ruling.stacked
        new = await self._repository.commit(
            tree=stacked.tree.id,
            parent=stacked.main,
            summary=change.summary,
            trailers={
                "Run": self._run,
                "Seat": change.seat,
                "Session": change.session,
                "Task": change.task,
                "Change": change.id,
            },
            author=change.seat,
            at=self._utc_now(),
        )

        def intend(tx: Tx) -> None:
            scorecard = changes.add_scorecard(tx, card, commit=new, seconds=seconds)
            _journal_judged(tx, change, ruling, card, seconds)
            changes.intend(tx, change.id, stacked.main, new, scorecard)

        await self._store.write(intend)
        await self._repository.land(stacked.main, new)
        await self._mark_landed(change, new)

    async def _mark_landed(self, change: Change, new: str) -> None:
        def work(tx: Tx) -> None:
            card = changes.scorecard_of(tx.db, new)
            before = changes.scorecard_before(tx.db, new)
            assert card is not None
            tx.run("UPDATE landing SET done = 1 WHERE change = ?", change.id)
            changes.finish(tx, change, ChangeState.LANDED, landed_as=new)
            gained = sorted(card.passed() - (before.passed() if before else frozenset()))
            passed, total = _totals(card)
            facts = {"task": change.task, "commit": new, "passed": passed, "total": total, "gained": len(gained)}
            tx.journal("landed", change.seat, change=change.id, **facts)
            update_board(tx, card)
            if not board.get(tx.db, change.task).cases:
                board.close(tx, change.task, f"{change.id} landed")

        await self._store.write(work)

    async def _bounce(self, change: Change, ruling: Ruling, seconds: float) -> None:
        def work(tx: Tx) -> None:
            if ruling.card is not None:
                changes.add_scorecard(tx, ruling.card, seconds=seconds)
                _journal_judged(tx, change, ruling, ruling.card, seconds)
            changes.bounce(tx, change, ruling.reason, ruling.detail, ruling.lost)

        await self._store.write(work)

    async def _put_back(self, change: Change, ruling: Ruling) -> None:
        def work(tx: Tx) -> None:
            changes.move(tx, change.id, ChangeState.QUEUED)
            tx.journal("voided", changes=[change.id], reason=ruling.reason)

        await self._store.write(work)


def update_board(tx: Tx, card: Scorecard) -> None:
    """Closes the tasks whose cases pass on main, and opens one for each failure signature that has none."""
    passed = card.passed()
    board.close_passing(tx, passed, card.verdicts.keys())
    clusters.sync_failures(tx, clusters.failures(card, signature), passed)


def _journal_judged(tx: Tx, change: Change, ruling: Ruling, card: Scorecard, seconds: float) -> None:
    passed, total = _totals(card)
    tx.journal(
        "judged",
        changes=[change.id],
        tree=card.tree,
        tier=card.tier,
        passed=passed,
        total=total,
        seconds=round(seconds, 1),
        lost=list(ruling.lost),
        gained=len(ruling.gained),
        built=card.build.ok,
    )


def _totals(card: Scorecard) -> tuple[int, int]:
    return len(card.passed()), len(card.verdicts)


class HeldoutLane:
    """Judges landed commits on the held-out cases, newest first. Nothing waits for it but the end of the run (P8)."""

    def __init__(self, store: Store, repository: Repository, judge: Judge, gate: Gate) -> None:
        self.idle = anyio.Event()
        self._store = store
        self._repository = repository
        self._judge = judge
        self._gate = gate

    async def keep(self) -> None:
        while True:
            heard = self._gate.moved.heard
            commit = await self._store.read(changes.newest_without_heldout) or await self._seed()
            if commit:
                await self.judge(commit)
                continue
            self.idle.set()
            await self._gate.moved.wait(heard)
            self.idle = anyio.Event()

    async def _seed(self) -> str:
        """The first main, which no landing names, while it is not judged."""
        first = await self._repository.seed()
        judged = await self._store.read(lambda db: changes.scorecard_of(db, first, Tier.HELDOUT))
        return "" if judged else first

    async def judge(self, commit: str) -> None:
        tree = self._repository.tree(await self._repository.tree_of(commit))
        card = await self._judge.judge(tree, Selection(Tier.HELDOUT))
        if card.void:
            await anyio.sleep(VOID_WAIT_S)
            return

        def work(tx: Tx) -> None:
            scorecard = changes.add_scorecard(tx, card, commit=commit)
            tx.journal("heldout-judged", commit=commit, scorecard=scorecard)

        await self._store.write(work)
