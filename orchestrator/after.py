"""After landing: main's commits are judged on what is too slow to gate, and on the held-out cases, newest first.

Nothing waits for these lanes but the end of the run. Of held-out cases a scorecard is kept, and nothing follows from it
(P8). A shown case that one judged main passed and a later one does not is a regression: it is confirmed, its culprit
found among the landings between, and it becomes a task; where the suite says so, a change of the run's own takes the
culprit's back. All that is known of a regression is its row, and each step ends in one transaction: after a crash
between any two, the first that is missing is taken.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio

from orchestrator import board, clusters
from orchestrator.queue import Conflict, error_line
from orchestrator.quoting import few_lines, one_line
from orchestrator.records import Change, ChangeState, Regression, TaskSource, TaskState
from orchestrator.replay import Replay
from orchestrator.repository import ITSELF, Repository
from orchestrator.search import Cases, first_failing
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, changes, rows
from sandbox import faults
from verifiers.scorecard import Judge, Outcome, Scorecard, Selection, Tier

PROBES: Final = 1  # mains tried at once: few builds rather than an early answer
REPEATS: Final = 3  # runs of a case that does not answer the same twice
VOID_WAIT_S: Final = 60.0
LINES_SHOWN: Final = 3  # of lost cases, in the task's evidence

Step = Callable[[], Awaitable[None]]


class Void(Exception):
    """A judgement said nothing: it is asked for again."""


@dataclass
class After:
    """One lane for each of the tiers `MAIN` and `HELDOUT` that has a judge. `reverting` names the suites whose losses
    are taken back; `submitting` is held by whoever hands in a change."""

    store: Store
    repository: Repository
    judges: Mapping[Tier, Judge]
    reverting: Collection[str]
    changed: Bell
    submitting: anyio.Lock
    replay: Replay | None = None

    async def keep(self) -> None:
        """Judges main's commits until cancelled."""
        async with anyio.create_task_group() as lanes:
            for tier in self.judges:
                lanes.start_soon(self._lane, tier)

    async def _lane(self, tier: Tier) -> None:
        async for _ in self.changed.rings():
            while step := await self.store.read(partial(self._next, tier=tier)):
                replay = self.replay if tier is Tier.MAIN else None  # which awaits what is taken back
                if replay:
                    replay.busy += 1
                try:
                    await step()
                except Void as void:
                    await self._wait("held-out cases cannot be judged" if tier is Tier.HELDOUT else str(void))
                finally:
                    if replay:
                        replay.busy -= 1

    async def _wait(self, why: str) -> None:
        told = {"who": "after landing", "why": one_line(why), "until": VOID_WAIT_S}
        await self.store.write(lambda tx: tx.journal("waiting", **told))
        await anyio.sleep(VOID_WAIT_S)

    def _next(self, db: sqlite3.Connection, tier: Tier) -> Step | None:
        """What a lane does next; None when all of main is judged and nothing follows from it any more."""
        if tier is Tier.MAIN:
            if lost := rows.find(db, Regression, "WHERE culprit IS NULL ORDER BY bad DESC, good"):
                good, bad = lost[0].good, lost[0].bad
                return partial(
                    self._search, good, bad, [one.case for one in lost if (one.good, one.bad) == (good, bad)]
                )
            if lost := rows.find(db, Regression, "WHERE revert IS NULL ORDER BY culprit"):
                return partial(self._revert, [one for one in lost if one.culprit == lost[0].culprit])
        commit = changes.newest_without(db, tier)
        return partial(self._judge, tier, commit) if commit else None

    def done(self, db: sqlite3.Connection) -> bool:
        """Whether all of main is judged, and all that follows from it is done."""
        return not any(self._next(db, tier) for tier in self.judges)

    def all_pass(self, db: sqlite3.Connection, main: str) -> bool:
        """Whether this commit of main passes every shown case that is judged after landing."""
        card = changes.scorecard_of(db, main, Tier.MAIN)
        passed = card.passed() if card else frozenset()
        return Tier.MAIN not in self.judges or (card is not None and bool(passed) and passed == card.verdicts.keys())

    async def _judged(self, tier: Tier, commit: str, selection: Selection) -> Scorecard:
        """Raises `Void`."""
        card = await self.judges[tier].judge(await self.repository.tree(commit), selection)
        if card.void:
            raise Void(card.void)
        return card

    async def _judge(self, tier: Tier, commit: str) -> None:
        began = anyio.current_time()
        card = await self._judged(tier, commit, Selection(tier))
        seconds = anyio.current_time() - began

        def write(tx: Tx) -> None:
            stored = changes.add_scorecard(tx, card, commit=commit, seconds=seconds)
            if tier is Tier.HELDOUT:
                tx.journal("heldout-judged", commit=commit, scorecard=stored)
                return
            lost = _note(tx, commit, card)
            facts = {"passed": len(card.passed()), "total": len(card.verdicts), "lost": lost}
            tx.journal("main-judged", commit=commit, scorecard=stored, seconds=round(seconds, 1), **facts)
            if not lost:
                _update_board(tx)

        await self.store.write(write)
        faults.at("after-judged")
        self.changed.ring()

    # -- what a loss leads to

    async def _search(self, good: int, bad: int, lost: Sequence[str]) -> None:
        """Confirms what one judged main passed and another did not, and finds for each case whose landing lost it.

        Lost is what fails again on the later main, alone and cold, or became unsteady since. A timeout that passes then
        was the machine's; a case that fails on the earlier main as well passed there by chance.
        """
        cases = frozenset(lost)
        mains = await self.store.read(lambda db: changes.mains(db, good, bad))
        last, unsteady = len(mains) - 1, Cases()
        tried: list[int] = []
        lines: dict[tuple[int, str], str] = {}

        async def failing(place: int, asked: Cases) -> Cases:
            """Which of the cases fail on a main, by its place in the row; an unsteady one, in any of several runs."""
            failed = Cases()
            for _ in range(REPEATS if asked else 0):
                card = await self._judged(Tier.MAIN, mains[place].commit, Selection(Tier.CASES, asked, cold=True))
                tried.append(place)
                lines.update({(place, case): _line(case, card) for case in asked - card.passed()})
                failed |= asked - card.passed()
                if not (asked := (asked & unsteady) - failed):
                    break
            return failed

        card = await self.store.read(lambda db: changes.scorecard_of(db, mains[last].commit, Tier.MAIN))
        assert card is not None  # what it lost was noted with it
        unsteady = cases - await failing(last, cases)
        late = unsteady & {case for case, one in card.verdicts.items() if one.outcome is Outcome.TIMEOUT}
        lines.update({(last, case): _line(case, card) for case in unsteady})
        unsteady -= late
        chance = await failing(0, cases - late)
        found = await first_failing(cases - late - chance, last, PROBES, failing)
        builds = sum(0 < place < last for place in tried)

        def write(tx: Tx) -> None:
            for case in late:
                tx.run("DELETE FROM regression WHERE (case_id, good, bad) = (?, ?, ?)", case, good, bad)
            if late:  # the newest scorecard counts
                passed = {case: replace(card.verdicts[case], outcome=Outcome.PASS, reason="") for case in late}
                known = replace(card, verdicts={**card.verdicts, **passed})
                changes.add_scorecard(tx, known, commit=mains[last].commit)
            settled = "UPDATE regression SET culprit = ?, line = ?, landings = ?, builds = ?, task = ?, revert = ?"
            where = "WHERE (case_id, good, bad) = (?, ?, ?)"
            for case in chance:
                tx.run(f"{settled} {where}", 0, lines[0, case], last, builds, "", "", case, good, bad)
            if chance:
                tx.journal("main-unsteady", commit=mains[0].commit, cases=sorted(chance))
            for place, mine in found.items():
                told = {case: lines[place, case] for case in sorted(mine)}
                task, revert = self._blame(tx, mains[place], told, last, builds)
                for case, line in told.items():
                    tx.run(f"{settled} {where}", mains[place].number, line, last, builds, task, revert, case, good, bad)
            _update_board(tx)

        await self.store.write(write)
        self.changed.ring()

    def _blame(
        self, tx: Tx, main: changes.Main, lost: Mapping[str, str], landings: int, builds: int
    ) -> tuple[str, str | None]:
        """Tells whose landing lost the cases, and puts what today's main does not pass either on the board. Returns the
        task, and None where the change is to be taken back, else ""."""
        change, newest = rows.get(tx.db, Change, main.change), changes.newest_card(tx.db, Tier.MAIN)
        still = sorted(lost.keys() - (newest.passed() if newest else ()))
        searched = f"{landings} landing{'s' * (landings > 1)} searched with {builds} build{'s' * (builds != 1)}"
        task = ""
        if still:
            who = f"{change.id} by {change.session or change.seat}, on main as {main.commit[:7]}, lost what main passed"
            why = "\n".join([who, *(lost[case] for case in still[:LINES_SHOWN]), f"judged after landing; {searched}"])
            task = _task(tx, change, still, why)
        facts = {"cases": list(lost), "change": change.id, "commit": main.commit, "session": change.session}
        line = next(iter(lost.values()))
        tx.journal("regressed", change.seat, task=task, line=line, landings=landings, builds=builds, **facts)
        return task, None if {case.split("/", 1)[0] for case in still} & set(self.reverting) else ""

    async def _revert(self, lost: Sequence[Regression]) -> None:
        """Hands in a change that takes the culprit's back, as any seat would, or says why there is none."""
        task, culprit = lost[0].task, lost[0].culprit
        whose = "WHERE id = (SELECT change FROM landing WHERE number = ?)"
        change = await self.store.read(lambda db: rows.first(db, Change, whose, culprit))
        assert change is not None
        at = await self.replay.revert(change.id) if self.replay else None
        async with self.submitting:
            number = await self.store.write(lambda tx: rows.next_number(tx, "change"))
            received = await self.repository.take_back(change.landed_as, f"refs/changes/{number}")
            main = await self.repository.main()
            merged = await self.repository.merge(main, received.commit)
            refused = ""
            if change.seat == ITSELF:
                refused = "it takes another back itself"
            elif isinstance(merged, Conflict):
                refused = f"that {merged.reason}"
            elif merged.id == (await self.repository.tree(main)).id:
                refused = "main holds nothing of it any more"
            elif self.replay and at is None:
                refused = "nothing did so in the recording"

            def write(tx: Tx) -> None:
                why, call = refused, f"revert of {change.id}"
                if (state := board.get(tx.db, task).state) not in board.OPEN:
                    why = f"{task} is {state}"
                if tried := rows.first(tx.db, Change, "WHERE call = ?", call):
                    why = f"{tried.id}, which was to do that, is {tried.state}"
                id = "" if why else f"C{number}"
                tx.run("UPDATE regression SET revert = ? WHERE culprit = ? AND revert IS NULL", id, culprit)
                if why:
                    tx.journal("not-reverted", change=change.id, task=task, reason=why)
                    return
                cases = tuple(one.case for one in lost)
                summary = f"Take {change.id} back: it lost {', '.join(cases[:LINES_SHOWN])}"
                mine = {"id": id, "session": "", "seat": ITSELF, "task": task, "state": ChangeState.QUEUED}
                said = {"submitted": at or tx.now, "call": call, "summary": summary, "fixes": cases}
                changes.add(tx, Change(**(vars(received) | mine | said)))

            await self.store.write(write)
        self.changed.ring()


def _note(tx: Tx, commit: str, card: Scorecard) -> list[str]:
    """Notes what a newly judged main does not pass that the one judged before it passes, and what it passes that the
    one after it does not; without what is known to be lost between them, or unsteady. Returns the cases."""
    if not card.build.ok:  # the gate builds what it lands; this one only landed together with the next
        return []
    here = changes.place(tx.db, commit)
    pairs = []
    if earlier := changes.next_card(tx.db, here, "<", Tier.MAIN):
        pairs.append((earlier[0], here, earlier[1].passed() - card.passed()))
    if later := changes.next_card(tx.db, here, ">", Tier.MAIN):
        pairs.append((here, later[0], card.passed() - later[1].passed()))
    noted = list[str]()
    for good, bad, lost in pairs:
        between = "SELECT case_id FROM regression WHERE culprit = 0 OR culprit > ? AND culprit <= ?"
        for case in sorted(lost - {row["case_id"] for row in tx.db.execute(between, (good, bad))}):
            rows.put(tx, "regression", case=case, good=good, bad=bad, at=tx.now)
            noted.append(case)
    return noted


def _task(tx: Tx, change: Change, cases: Sequence[str], why: str) -> str:
    """The task that the lost cases become; where each is in somebody's hands already, that one."""
    open_now = board.open_tasks(tx.db)
    owners = {
        case: one.id for one in open_now if one.state is TaskState.CLAIMED or not one.signature for case in one.cases
    }
    if not (free := tuple(case for case in cases if case not in owners)):
        return owners[cases[0]]
    what = free[0] if len(free) == 1 else f"{free[0].split('/', 1)[0]}: {len(free)} cases"
    title = one_line(f"{what}: lost by {change.id}", board.TITLE)
    return board.put(tx, title, TaskSource.REGRESSION, by="run", cases=free, why=few_lines(why)).id


def _update_board(tx: Tx) -> None:
    """With what is known of today's main by now."""
    if card := changes.newest_card(tx.db, Tier.FULL):
        clusters.update_board(tx, card)


def _line(case: str, card: Scorecard) -> str:
    return one_line(error_line(case, card) if card.build.ok else f"ERROR {case}: does not build: {card.build.reason}")
