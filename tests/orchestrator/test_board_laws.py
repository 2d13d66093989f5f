"""The board's laws hold under any order of claims, releases, closings, landings and crashes."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agents.tools import End
from orchestrator import board, clusters
from orchestrator.board import Refused
from orchestrator.briefing import locks, sync_locks
from orchestrator.records import Session, SessionState, Task, TaskSource, TaskState
from orchestrator.store import Tx, rows, sessions
from orchestrator.store.store import migrate
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW = datetime(2026, 3, 14, tzinfo=UTC)
CASES = [f"torture/{n}" for n in range(6)]
SEATS = st.integers(1, 4)
PICK = st.integers(0, 10_000)


class BoardLaws(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.row_factory = sqlite3.Row
        migrate(db)
        self.tx = Tx(db, 1, NOW)
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "current_tasks"

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()

    def attempt(self, work: object, *arguments: object) -> None:
        """One job of the writer: what raises undoes only itself."""
        self.tx.db.execute("SAVEPOINT job")
        try:
            work(*arguments)  # type: ignore[operator]
        except Refused as refused:
            assert len(str(refused)) > 10
            self.tx.db.execute("ROLLBACK TO job")
        self.tx.db.execute("RELEASE job")

    def live(self, seat: int) -> str:
        for known in sessions.live(self.tx.db):
            if known.seat == f"agent-0{seat}":
                return known.id
        name = f"agent-0{seat}"
        number = rows.next_number(self.tx, "session", "WHERE seat = ?", name)
        made = Session(f"{name}/{number}", name, number, "builder", "open", SessionState.ACTIVE, NOW, "b")
        sessions.start(self.tx, made)
        return made.id

    def some(self, pick: int) -> str:
        every = rows.find(self.tx.db, Task)
        return every[pick % len(every)].id if every else "T1"

    @rule(pick=PICK, cases=st.sets(st.sampled_from(CASES), max_size=3))
    def plan(self, pick: int, cases: set[str]) -> None:
        def work() -> None:
            board.add_task(self.tx, f"task {pick % 7}", TaskSource.PLANNER, by="p", cases=sorted(cases), known=CASES)

        self.attempt(work)

    @rule(failing=st.dictionaries(st.sampled_from(CASES), st.sampled_from("xyz")))
    def landed(self, failing: dict[str, str]) -> None:
        passed = {case: Verdict(case, Outcome.PASS) for case in CASES}
        failed = {case: Verdict(case, Outcome.FAIL, reason=why) for case, why in failing.items()}
        clusters.update_board(self.tx, Scorecard("t", "full", Build(True, 0.0), passed | failed))

    @rule(seat=SEATS, pick=PICK)
    def claim(self, seat: int, pick: int) -> None:
        self.attempt(board.claim, self.tx, self.some(pick), self.live(seat))

    @rule(seat=SEATS, pick=PICK)
    def claim_own(self, seat: int, pick: int) -> None:
        def work() -> None:
            own = board.add_task(self.tx, f"own {pick % 5}", TaskSource.SEAT, by="p", touches=["src"])
            board.claim(self.tx, own.id, self.live(seat))

        self.attempt(work)

    @rule(seat=SEATS)
    def release(self, seat: int) -> None:
        self.attempt(board.release, self.tx, self.live(seat), "stuck", "note")

    @rule(pick=PICK, other=PICK, what=st.sampled_from(["close", "drop", "merge", "order"]))
    def decide(self, pick: int, other: int, what: str) -> None:
        one, two = self.some(pick), self.some(other)
        match what:
            case "close":
                self.attempt(board.close, self.tx, one, "done")
            case "drop":
                self.attempt(board.drop_task, self.tx, one, "no", "p")
            case "merge":
                self.attempt(board.merge, self.tx, one, [two], "p")
            case _:
                self.attempt(board.order, self.tx, [one, two], "p")

    @rule(seat=SEATS)
    def session_ends(self, seat: int) -> None:
        name = self.live(seat)
        if board.claim_of(self.tx.db, name):
            board.release(self.tx, name, "over", gave_up=False)
        sessions.end(self.tx, name, End.FINISHED)

    @rule(seed=PICK)
    def crash_and_resume(self, seed: int) -> None:
        self.tx = Tx(self.tx.db, self.tx.epoch + 1, NOW)
        names = [known.id for known in sessions.live(self.tx.db)]
        going_on = set(random.Random(seed).sample(names, len(names) // 2))
        board.recover(self.tx, going_on)
        for name in set(names) - going_on:
            sessions.end(self.tx, name, End.CRASHED)

    @invariant()
    def laws(self) -> None:
        if not hasattr(self, "tx"):
            return
        db = self.tx.db
        held = board.claims(db)
        live = {known.id for known in sessions.live(db)}
        assert len({claim.task for claim in held}) == len({claim.session for claim in held}) == len(held)
        assert {claim.session for claim in held} <= live
        assert {claim.epoch for claim in held} <= {self.tx.epoch}
        claimed = {task.id for task in rows.find(db, Task) if task.state is TaskState.CLAIMED}
        assert claimed == {claim.task for claim in held}
        assert not {task.id for task in board.ready(db)} & claimed
        groups = [task.signature for task in board.open_tasks(db) if task.signature]
        assert len(groups) == len(set(groups))
        sync_locks(self.folder, locks(db))
        shown = {path.stem: path.read_text() for path in self.folder.iterdir()}
        assert shown.keys() == claimed
        assert all(f"session  {claim.session}\n" in shown[claim.task] for claim in held)


BoardLaws.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)
test_board_laws = BoardLaws.TestCase
