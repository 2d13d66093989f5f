"""The gate: the merge queue over the run's own repository, judges and state. It alone moves main.

What is staged stands on commits in the bare repository that become main when they land. git and SQLite are two
authorities, so landing is: intent stored (old, new, change, scorecard) → compare-and-swap of main → marked landed.
`recover` goes on where a crash left it between any two of these; the stack itself is made again from the live changes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from orchestrator import board, clusters, excused, verdict
from orchestrator.queue import VOID_WAIT_S, VOIDS, Cases, Conflict, Queue, Staged
from orchestrator.records import Change, ChangeState
from orchestrator.replay import Replay
from orchestrator.repository import Repository
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, changes, matrix, rows
from sandbox import faults
from verifiers.scorecard import Judge, Scorecard, Selection, Tier, Tree

TOUCHED: Final = 5  # landed changes named to the submitter of one that conflicts with them


class SeedNotJudged(Exception):
    """The first main does not build, or its judgement says nothing: the run cannot begin."""


@dataclass
class Gate:
    """The lane that lands changes, `fast` on the submitters' allowance. `changed` rings whenever something has changed
    that somebody waits for: the queue, the board, the run's state."""

    store: Store
    repository: Repository
    judge: Judge
    fast: Judge
    run: str
    changed: Bell = field(default_factory=Bell)
    replay: Replay | None = None
    returned: dict[str, str] = field(default_factory=dict)
    """By seat: the session whose change came back, until the seat goes on with it."""
    _queue: Queue | None = None
    _newest: dict[str, Scorecard] = field(default_factory=dict)  # main's, by commit: asked for more than it moves
    _left: list[Change] = field(default_factory=list)  # by an earlier process, and not on the stack yet
    _submitting: set[str] = field(default_factory=set)

    async def recover(self) -> None:
        """Finishes a landing that a crash cut."""
        await self._finish()

    async def judge_main(self) -> Scorecard:
        """Main's scorecard; the seed is judged here before anything else happens. Raises `SeedNotJudged`."""
        main = await self.repository.main()
        if main not in self._newest:
            known = await self.store.read(lambda db: changes.scorecard_of(db, main))
            self._newest = {main: known or await self._judge_seed(main)}
        return self._newest[main]

    async def _judge_seed(self, main: str) -> Scorecard:
        card = await self.judge.judge(await self.repository.tree(main), Selection(Tier.FULL, cold=True))
        if card.void or not card.build.ok:
            wrong = f"could not be judged: {card.void}" if card.void else f"does not build: {card.build.reason}"
            raise SeedNotJudged(f"main at {main[:10]} {wrong}")

        def work(tx: Tx) -> None:
            changes.add_scorecard(tx, card, commit=main)
            clusters.update_board(tx, card)

        await self.store.write(work)
        return card

    async def open(self) -> Queue:
        """The queue as the state has it: main, and on it what an earlier process had staged."""
        if self._queue is None:
            card, main = await self.judge_main(), await self.repository.main()
            self._queue = Queue(self, self.judge, self.fast, self, main, card.passed(), order=self.replay)
            self._left = await self.store.read(changes.staged)
            if self.replay is None:  # where it may have to wait for others
                await self._restack(self._queue)
        return self._queue

    async def _restack(self, queue: Queue) -> None:
        while self._left:
            await queue.stage(self._left.pop(0))

    async def submit(self, change: Change) -> None:
        """Merges a queued change onto the staging tip and tries it there: it is staged, parked or bounced on return.
        Once for each change, whoever asks."""
        queue = await self.open()
        if change.id in self._submitting:
            return await self.changed.until(lambda: change.id not in self._submitting)
        self._submitting.add(change.id)
        try:
            now = await self.store.read(lambda db: rows.get(db, Change, change.id))
            if now.state is ChangeState.QUEUED:
                await queue.submit(now)
        finally:
            self._submitting.remove(change.id)
            self.changed.ring()

    async def keep(self) -> None:
        """Judges and lands until cancelled. Every change it takes comes to an end, or the gate says why it waits."""
        queue = await self.open()
        left = {change.id for change in await self.store.read(changes.live)}  # by a process that died

        async def judge_and_land() -> None:
            await self._restack(queue)
            await queue.keep()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(judge_and_land)
            async for _ in self.changed.rings():
                for change in await self.store.read(changes.live):
                    nobodys = change.id in left or not change.session  # no seat of ours brings it
                    if nobodys and change.state is ChangeState.QUEUED and change.id not in self._submitting:
                        tasks.start_soon(self.submit, change)

    # -- the queue's trees

    async def put(self, change: Change, onto: str) -> Staged | Conflict:
        """The commit has the date of the submission: the same change on the same commit is the same commit."""
        merged = await self.repository.merge(onto, change.commit)
        if isinstance(merged, Conflict):
            return merged
        names = {"Run": self.run, "Seat": change.seat, "Session": change.session, "Task": change.task}
        whose = {**names, "Change": change.id}
        commit = await self.repository.commit(
            merged.id, onto, change.summary, whose, author=change.seat, at=change.submitted
        )
        return Staged(change, commit, merged)

    async def tree(self, commit: str) -> Tree:
        return await self.repository.tree(commit)

    # -- the queue's book

    async def excused(self) -> Cases:
        return await self.store.read(lambda db: excused.excused(db, self.store.utc_now()))

    async def unsteady(self, cases: Mapping[str, str]) -> None:
        await self._write(lambda tx: excused.quarantine(tx, cases))

    async def staged(self, staged: Staged, onto: Sequence[Staged]) -> None:
        def work(tx: Tx) -> None:
            changes.move(tx, staged.change.id, ChangeState.STAGED)
            below = [one.change.id for one in onto]
            tx.journal("staged", staged.change.seat, change=staged.change.id, onto=below, commit=staged.commit)

        await self._write(work)
        faults.at("staged")

    async def parked(self, change: Change, conflict: Conflict) -> None:
        def work(tx: Tx) -> None:
            changes.move(tx, change.id, ChangeState.PARKED)
            tx.journal("parked", change.seat, change=change.id, files=list(conflict.files))

        await self._write(work)

    async def clashed(self, change: Change, conflict: Conflict) -> None:
        def work(tx: Tx) -> None:
            touched = changes.landed_since(tx.db, change.base, conflict.files)[-TOUCHED:]
            who = [
                f"{one.id} by {one.session} touched it: {one.summary.strip().partition(chr(10))[0]}" for one in touched
            ]
            self._bounce(tx, change, conflict.reason, "\n".join([*who, conflict.hunks]), files=conflict.files)

        await self._keep(change, conflict.reason)
        await self._write(work)

    async def bounced(self, change: Change, reason: str, detail: str = "", lost: Collection[str] = ()) -> None:
        await self._keep(change, reason)
        await self._write(lambda tx: self._bounce(tx, change, reason, detail, sorted(lost)))
        faults.at("bounced")

    async def _keep(self, change: Change, reason: str) -> None:
        """The bounce may give its task to another seat. What the session does from here on is kept in its place."""
        if change.session:
            why = f"{change.id} bounced: {reason}"
            await self.repository.keep(change.task, change.commit, change.session, why, self.store.utc_now())

    def _bounce(
        self, tx: Tx, change: Change, reason: str, detail: str, lost: Sequence[str] = (), files: Sequence[str] = ()
    ) -> None:
        changes.bounce(tx, change, reason, detail, lost, files)
        verdict.tell(tx, rows.get(tx.db, Change, change.id))
        self.returned[change.seat] = change.session

    async def judging(self, stack: Sequence[Staged]) -> None:
        main = await self.repository.main()

        def work(tx: Tx) -> None:
            for one in stack:
                changes.move(tx, one.change.id, ChangeState.JUDGING)
            tx.journal("judging", changes=_ids(stack), main=main, tier="full")

        await self._write(work)
        faults.at("judging")

    async def judged(self, stack: Sequence[Staged], card: Scorecard, lost: Collection[str], seconds: float) -> None:
        faults.at("judged-bad")

        def work(tx: Tx) -> None:
            _judged(tx, stack, card, 0, sorted(lost), seconds)
            changes.add_scorecard(tx, card, seconds=seconds)

        await self._write(work)

    async def voided(self, stack: Sequence[Staged], reason: str, wait_s: float) -> None:
        def work(tx: Tx) -> None:
            for one in stack:
                changes.move(tx, one.change.id, ChangeState.STAGED)
            tx.journal("voided", changes=_ids(stack), reason=reason)
            if wait_s:
                words = f"{VOIDS} judgements or more in a row said nothing ({reason})"
                tx.journal("gate-paused", reason=f"{words}; tried again in {VOID_WAIT_S:.0f} s")

        await self._write(work)

    async def landed(self, stack: Sequence[Staged], card: Scorecard, seconds: float) -> None:
        faults.at("judged-good")
        old = await self.repository.main()
        before = await self.judge_main()

        def intend(tx: Tx) -> None:
            _judged(tx, stack, card, len(card.passed() - before.passed()), [], seconds)
            scorecard = changes.add_scorecard(tx, card, commit=stack[-1].commit, seconds=seconds)
            for below, one in zip([old, *(one.commit for one in stack)], stack, strict=False):
                changes.intend(tx, one.change.id, below, one.commit, scorecard)

        await self.store.write(intend)
        faults.at("intent-stored")
        await self._finish()
        self.changed.ring()

    async def _write(self, work: Callable[[Tx], None]) -> None:
        await self.store.write(work)
        self.changed.ring()

    async def _finish(self) -> None:
        """Brings an intended landing to its end, from wherever it stands."""
        sql = "SELECT change, task, old, new FROM landing JOIN change ON change.id = change "
        sql += "WHERE NOT done ORDER BY landing.number"
        landing = await self.store.read(lambda db: db.execute(sql).fetchall())
        if not landing:
            return
        old, new = landing[0]["old"], landing[-1]["new"]
        await self.repository.land(old, new)
        for row in landing:
            await self.repository.forget(row["task"])

        def mark(tx: Tx) -> None:
            card, before = changes.scorecard_of(tx.db, new), changes.scorecard_of(tx.db, old)
            assert card and before  # main only ever points at a commit whose scorecard is stored (P3)
            gained = card.passed() - before.passed()
            tx.run("UPDATE landing SET done = 1")
            matrix.record(tx)
            for row in landing:
                change = rows.get(tx.db, Change, row["change"])
                last = row["new"] == new
                promised = gained if last else {case for case in gained if case in change.fixes}
                gained -= promised
                changes.finish(tx, change, ChangeState.LANDED, landed_as=row["new"])
                facts = {"task": change.task, "commit": row["new"], "gained": len(promised), **_totals(card)}
                tx.journal("landed", change.seat, change=change.id, **facts)
                clusters.give_back(tx, change.task, before, card)
            clusters.update_board(tx, card)
            for row in landing:
                change = rows.get(tx.db, Change, row["change"])
                if not board.get(tx.db, change.task).cases:
                    board.close(tx, change.task, f"{change.id} landed")
                verdict.tell(tx, change)

        await self.store.write(mark)
        faults.at("landing-marked")


def _judged(tx: Tx, stack: Sequence[Staged], card: Scorecard, gained: int, lost: Sequence[str], seconds: float) -> None:
    facts = {
        "tier": card.tier,
        "lost": list(lost),
        "gained": gained,
        "built": card.build.ok,
        "build_s": round(card.build.seconds, 1),
    }
    facts |= _totals(card)
    tx.journal("judged", changes=_ids(stack), tree=card.tree, seconds=round(seconds, 1), **facts)


def _ids(stack: Sequence[Staged]) -> list[str]:
    return [one.change.id for one in stack]


def _totals(card: Scorecard) -> dict[str, int]:
    return {"passed": len(card.passed()), "total": len(card.verdicts)}
