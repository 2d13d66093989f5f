"""The gate: judges what is queued, one change at a time, and moves main.

git and SQLite are two authorities, so landing is: intent stored (old, new, change, scorecard) → compare-and-swap of
main → marked landed. `recover` goes on where a crash left it between any two of these.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import Final

import anyio

from orchestrator import board, clusters
from orchestrator.queue import Fate, Ruling, rule
from orchestrator.records import Change, ChangeState
from orchestrator.replay import Replay
from orchestrator.repository import Repository
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, changes, rows
from verifiers.scorecard import Judge, Scorecard, Selection, Tier

VOIDS: Final = 2  # in a row pause the gate
VOID_WAIT_S: Final = 60.0


class SeedNotJudged(Exception):
    """The first main does not build, or its judgement says nothing: the run cannot begin."""


@dataclass
class Gate:
    """The one lane that lands changes, and beside it a lane for held-out cases, whose judge is None where there are
    none. `changed` rings whenever something has changed that somebody waits for: the queue, the board, the run's state.
    """

    store: Store
    repository: Repository
    judge: Judge
    heldout: Judge | None
    run: str
    changed: Bell = field(default_factory=Bell)
    replay: Replay | None = None
    _newest: dict[str, Scorecard] = field(default_factory=dict)  # main's, by commit: asked for more than it moves
    _voids: int = 0  # in a row

    async def recover(self) -> None:
        """Finishes a landing that a crash cut, and puts half-judged changes back in the queue."""
        open_landing = "SELECT change, old, new FROM landing WHERE NOT done"
        if landing := await self.store.read(lambda db: db.execute(open_landing).fetchone()):
            await self._finish(*landing)
        requeue = "UPDATE change SET state = ? WHERE state = ?"
        await self.store.write(lambda tx: tx.run(requeue, ChangeState.QUEUED, ChangeState.JUDGING))

    async def judge_main(self) -> Scorecard:
        """Main's scorecard; the seed is judged here before anything else happens. Raises `SeedNotJudged`."""
        main = await self.repository.main()
        if main not in self._newest:
            known = await self.store.read(lambda db: changes.scorecard_of(db, main))
            self._newest = {main: known or await self._judge_seed(main)}
        return self._newest[main]

    async def _judge_seed(self, main: str) -> Scorecard:
        card = await self.judge.judge(await self.repository.tree(main), Selection(Tier.FULL))
        if card.void or not card.build.ok:
            wrong = f"could not be judged: {card.void}" if card.void else f"does not build: {card.build.reason}"
            raise SeedNotJudged(f"main at {main[:10]} {wrong}")

        def work(tx: Tx) -> None:
            changes.add_scorecard(tx, card, commit=main)
            clusters.update_board(tx, card)

        await self.store.write(work)
        return card

    async def keep(self) -> None:
        """Judges and lands until cancelled. Every change it takes comes to an end, or the gate says why it waits."""
        async for _ in self.changed.rings():
            while waiting := await self.store.read(changes.live):
                await self.settle(waiting[0])

    async def settle(self, change: Change) -> None:
        """Judges one change and does what the ruling says."""
        main, floor = await self.repository.main(), await self.judge_main()

        def begin(tx: Tx) -> None:
            changes.move(tx, change.id, ChangeState.JUDGING)
            tx.journal("judging", changes=[change.id], main=main, tier="full")

        await self.store.write(begin)
        began = anyio.current_time()
        merged = await self.repository.merge(main, change.commit)
        ruling = await rule(merged, floor.passed(), self.judge)
        again = ruling.fate is Fate.VOID and self._voids >= VOIDS  # the machine's fault, unless main can be judged
        if again and not (await self.judge.judge(await self.repository.tree(main), Selection(cold=True))).void:
            words = f"cannot be judged, while main can: {ruling.reason}"
            ruling = Ruling(Fate.BOUNCE, words, "Something in it keeps the judge from its end.")
        seconds = anyio.current_time() - began
        self._voids = self._voids + 1 if ruling.fate is Fate.VOID else 0
        if ruling.fate is Fate.LAND:
            await self._land(change, main, ruling, seconds)
        else:
            await self.store.write(lambda tx: self._refuse(tx, change, ruling, seconds))
        self.changed.ring()
        if self._voids >= VOIDS:
            await anyio.sleep(VOID_WAIT_S)

    def _refuse(self, tx: Tx, change: Change, ruling: Ruling, seconds: float) -> None:
        if ruling.fate is Fate.BOUNCE:
            if ruling.card:
                _add_scorecard(tx, change, ruling, ruling.card, seconds)
            changes.bounce(tx, change, ruling.reason, ruling.detail, ruling.lost)
            return
        changes.move(tx, change.id, ChangeState.QUEUED)
        tx.journal("voided", changes=[change.id], reason=ruling.reason)
        if self._voids >= VOIDS:
            words = f"{self._voids} judgements in a row said nothing ({ruling.reason})"
            tx.journal("gate-paused", reason=f"{words}; tried again in {VOID_WAIT_S:.0f} s")

    async def _land(self, change: Change, main: str, ruling: Ruling, seconds: float) -> None:
        card = ruling.card
        assert card is not None
        names = {"Run": self.run, "Seat": change.seat, "Session": change.session, "Task": change.task}
        trailers, at = {**names, "Change": change.id}, change.submitted
        new = await self.repository.commit(card.tree, main, change.summary, trailers, author=change.seat, at=at)
        if self.replay:
            await self.replay.before_landing([change.id])

        def intend(tx: Tx) -> None:
            changes.intend(tx, change.id, main, new, _add_scorecard(tx, change, ruling, card, seconds, commit=new))

        await self.store.write(intend)
        await self._finish(change.id, main, new)

    async def _finish(self, id: str, old: str, new: str) -> None:
        """Brings an intended landing to its end, from wherever it stands."""
        await self.repository.land(old, new)

        def mark(tx: Tx) -> None:
            change, card = rows.get(tx.db, Change, id), changes.scorecard_of(tx.db, new)
            before = changes.scorecard_of(tx.db, old)
            assert card and before  # main only ever points at a commit whose scorecard is stored (P3)
            tx.run("UPDATE landing SET done = 1 WHERE change = ?", change.id)
            changes.finish(tx, change, ChangeState.LANDED, landed_as=new)
            gained = len(card.passed() - before.passed())
            facts = {"task": change.task, "commit": new, "gained": gained, **_totals(card)}
            tx.journal("landed", change.seat, change=change.id, **facts)
            clusters.give_back(tx, change.task, before, card)
            clusters.update_board(tx, card)
            if not board.get(tx.db, change.task).cases:
                board.close(tx, change.task, f"{change.id} landed")

        await self.store.write(mark)

    # -- the held-out cases, in a lane of their own: nothing waits for it but the end of the run (P8)

    async def keep_heldout(self) -> None:
        """Judges main's commits on the held-out cases, newest first, until cancelled."""
        async for _ in self.changed.rings():
            while self.heldout and (commit := await self.store.read(changes.newest_without_heldout)):
                await self._judge_heldout(self.heldout, commit)

    async def _judge_heldout(self, judge: Judge, commit: str) -> None:
        card = await judge.judge(await self.repository.tree(commit), Selection(Tier.HELDOUT))
        if card.void:
            await anyio.sleep(VOID_WAIT_S)
            return

        def write(tx: Tx) -> None:
            tx.journal("heldout-judged", commit=commit, scorecard=changes.add_scorecard(tx, card, commit=commit))

        await self.store.write(write)

    def done(self, db: sqlite3.Connection) -> bool:
        """Whether nothing is queued and all of main is judged."""
        return not (changes.live(db) or (self.heldout and changes.newest_without_heldout(db)))


def _add_scorecard(tx: Tx, change: Change, ruling: Ruling, card: Scorecard, seconds: float, commit: str = "") -> int:
    facts = {"tier": card.tier, "lost": list(ruling.lost), "gained": len(ruling.gained), "built": card.build.ok}
    tx.journal("judged", changes=[change.id], tree=card.tree, seconds=round(seconds, 1), **facts, **_totals(card))
    return changes.add_scorecard(tx, card, commit=commit, seconds=seconds)


def _totals(card: Scorecard) -> dict[str, int]:
    return {"passed": len(card.passed()), "total": len(card.verdicts)}
