"""Every past version of the state stays loadable. Write a new version's file with `python -m tests.golden.make`."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from agents.models.base import Text
from orchestrator import board
from orchestrator.briefing import locks
from orchestrator.ledger import account
from orchestrator.records import AttemptState, Regression, Task, TaskState
from orchestrator.store import Store, changes, reading, rows, sessions
from orchestrator.store.store import KINDS, MIGRATIONS, migrate
from orchestrator.watch import queries
from verifiers.scorecard import Outcome

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("state-v*.sql"))


def restored(file: Path, path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript(file.read_text())
    db.close()


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
    return [(name, " ".join(sql.split())) for name, sql in rows]


def test_every_version_has_its_file() -> None:
    assert [file.stem for file in GOLDEN] == [f"state-v{n}" for n in range(1, len(MIGRATIONS) + 1)]


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_a_state_of_a_past_version_is_what_its_migrations_make(file: Path, tmp_path: Path) -> None:
    restored(file, tmp_path / "state.db")
    stored = sqlite3.connect(tmp_path / "state.db")
    fresh = sqlite3.connect(":memory:")
    for script in MIGRATIONS[: GOLDEN.index(file) + 1]:
        fresh.executescript(script)
    assert schema(stored) == schema(fresh), "a migration was edited: not released? then write the file again"
    migrate(stored)
    assert stored.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_todays_code_reads_and_continues_a_state_of_a_past_version(file: Path, tmp_path: Path) -> None:
    restored(file, tmp_path / "state.db")

    def look(db: sqlite3.Connection) -> None:
        assert next((task.id, task.state) for task in rows.find(db, Task)) == ("T1", TaskState.CLAIMED)
        assert rows.get(db, Task, "T1").order == 1.5 and rows.get(db, Task, "T3").signature == "torture|exit 134"
        assert [note.text for note in board.notes(db, "T1")] == ["look at the table"]
        assert "owner    agent-01" in locks(db)["T1.txt"]
        (session,) = sessions.live(db)
        transcript, pending = sessions.stored(db, session)
        (turn,) = transcript.turns
        assert session.id == "agent-01/1" and transcript.opening == "You are a builder." and not pending
        assert turn.reply.blocks[0] == Text("I will.") and turn.said == ("[person] Prefer small steps.",)
        assert [result.text for result in turn.results] == ["exit 0"]
        assert [change.id for change in changes.live(db)] == ["C1"]
        card = changes.scorecard_of(db, "m1")
        assert card is not None and card.verdicts["torture/c"].outcome is Outcome.FAIL
        (landing,) = db.execute("SELECT * FROM landing")
        assert (landing["change"], landing["old"], landing["new"], landing["done"]) == ("C1", "b0", "m1", 0)
        if file.stem >= "state-v2":
            (lost,) = rows.find(db, Regression)
            assert (lost.case, lost.culprit, lost.task, lost.revert) == ("torture/c", 1, "T3", None)
        settled, doubted = db.execute("SELECT * FROM attempt ORDER BY id")
        assert settled["cost"] == 4_500 and doubted["state"] == AttemptState.IN_DOUBT
        assert account(db) == {AttemptState.SETTLED: 4_500, AttemptState.IN_DOUBT: doubted["reserved"]}
        assert queries.cost(db, "seat")["rows"][0]["seat"] == "agent-01"
        events = db.execute("SELECT kind, data FROM journal").fetchall()
        assert len(events) >= 10 and all(json.loads(event["data"]).keys() <= KINDS[event["kind"]] for event in events)

    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: datetime(2027, 1, 1, tzinfo=UTC))
        await store.read(look)
        assert await store.begin_epoch() == 2
        await store.write(lambda tx: tx.journal("run-resumed", version="next", by="person", sessions=1))
        await store.close()

    anyio.run(scenario)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_a_state_of_a_past_version_can_be_looked_at_and_is_left_as_it_is(file: Path, tmp_path: Path) -> None:
    restored(file, tmp_path / "state.db")
    before = (tmp_path / "state.db").read_bytes()
    with reading(tmp_path / "state.db") as db:
        answer = queries.status(db, queries.frame(db, False, datetime(2027, 1, 1, tzinfo=UTC)))
    assert answer["suites"]["torture"]["passed"] == 1
    assert (tmp_path / "state.db").read_bytes() == before
