"""Nobody starves, and what changes meet in is named: hot files, and tasks whose changes bounce again and again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from orchestrator import board
from orchestrator.briefing import Show, describe, render_tasks
from orchestrator.records import Change, ChangeState, TaskSource
from orchestrator.store import Tx, changes, rows
from orchestrator.store.store import migrate
from orchestrator.watch.queries import SQL
from tests.orchestrator.running import SUBMIT, faults, shell, small_project, small_team, yard
from tests.orchestrator.test_board import queued, session
from tests.orchestrator.test_open_seats import seat

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
SPOILT = "echo spoilt >parts/base && echo {0} >parts/{0}"


@pytest.fixture
def tx() -> Iterator[Tx]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    yield Tx(db, 1, NOW)
    db.close()


# -- hot files


def submitted(tx: Tx, *files: str, conflicts: tuple[str, ...] = (), ends: ChangeState = ChangeState.LANDED) -> None:
    task = board.put(tx, f"task of {','.join(files)}", TaskSource.SEAT, by="agent-09/1").id
    change = rows.get(tx.db, Change, queued(tx, task))
    rows.update(tx, "change", change.id, files=files)
    if ends is ChangeState.BOUNCED or conflicts:
        changes.bounce(tx, change, "a reason", files=conflicts)
    else:
        changes.finish(tx, change, ends, landed_as="m")


def hot(tx: Tx) -> list[str]:
    return [row["text"] for row in tx.db.execute(SQL["hot_files"])]


def test_a_file_is_hot_when_changes_conflict_there_more_than_its_share(tx: Tx) -> None:
    for _ in range(29):
        submitted(tx, "src/other.rs")
    for _ in range(2):
        submitted(tx, "src/lib.rs", "src/other.rs")
    for _ in range(2):
        submitted(tx, "src/lib.rs", conflicts=("src/lib.rs",))
    assert hot(tx) == []  # twice is chance
    for _ in range(3):
        submitted(tx, "src/lib.rs", "src/other.rs", conflicts=("src/lib.rs",))
    for _ in range(4):
        submitted(tx, "src/other.rs", conflicts=("src/other.rs",))  # 4 of 9, and 38 of 40 changes
    assert hot(tx) == ["src/lib.rs: 5 of 9 conflicts, 7 of 40 changes"]
    assert "hot files: src/lib.rs: 5 of 9 conflicts, 7 of 40 changes" in render_tasks(tx.db, Show.ALL, NOW)


def test_what_was_hot_long_ago_is_not(tx: Tx) -> None:
    for _ in range(3):
        submitted(tx, "src/lib.rs", conflicts=("src/lib.rs",))
    submitted(tx, "src/other.rs")
    assert hot(tx) == ["src/lib.rs: 3 of 3 conflicts, 3 of 4 changes"]
    for _ in range(197):
        submitted(tx, "src/other.rs")
    assert hot(tx) == []


def test_the_file_that_nearly_everybody_changes_is_hot_when_all_conflicts_are_there(tx: Tx) -> None:
    for _ in range(10):
        submitted(tx, "src/main.rs", "src/a.rs")
    submitted(tx, "src/a.rs")
    for _ in range(3):
        submitted(tx, "src/main.rs", "src/a.rs", conflicts=("src/main.rs",))
    assert hot(tx) == ["src/main.rs: 3 of 3 conflicts, 13 of 14 changes"]


def test_a_file_is_hot_when_what_touches_it_bounces_unless_everything_touches_it(tx: Tx) -> None:
    for _ in range(6):
        submitted(tx, "src/lib.rs")
    for _ in range(3):
        submitted(tx, "src/abi.rs", "src/lib.rs", ends=ChangeState.BOUNCED)
    assert hot(tx) == ["src/abi.rs: 3 of 3 other bounces, 3 of 9 changes"]


def test_a_conflict_in_a_file_that_the_change_knows_by_another_name_counts_there(tx: Tx) -> None:
    for _ in range(3):
        submitted(tx, "old.rs", conflicts=("new\x1b[2J.rs",))
    submitted(tx, "other.rs")
    assert hot(tx)[0] == "new\x1b[2J.rs: 3 of 3 conflicts, 3 of 4 changes"
    assert "\x1b" not in render_tasks(tx.db, Show.READY, NOW)


def test_a_change_that_conflicts_with_main_leaves_the_names_of_the_files() -> None:
    with yard() as place:
        run = place.start(small_project(place.folder / "project", ("red", "green")), "open", 2)
        run.until("SELECT 1 FROM scorecard")
        first, second = (seat(run, "", "take")["token"] for _ in range(2))
        for token, part in ((first, "red"), (second, "green")):
            seat(run, token, "claim", run.one("SELECT id FROM task WHERE cases LIKE ?", f"%a-{part}%"))
            seat(run, token, "shell", f"echo red >parts/{part} && echo {part} >parts/red")
        seat(run, first, "submit", "--summary", "Red")
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        assert "conflicts with main in parts/red" in seat(run, second, "submit", "--summary", "Green", code=1)["text"]
        said = "SELECT data ->> 'files' FROM journal WHERE kind = 'bounced'"
        assert run.one(said) == '["parts/red"]'
        assert place.say("stop", run.name, "--now").returncode == 0


# -- fairness


def bounce(tx: Tx, task: str, by: str, number: int) -> None:
    change = rows.get(tx.db, Change, queued(tx, task, by=by))
    changes.bounce(tx, change, f"loses torture/{number}", "ERROR of a program")


def test_the_third_bounce_of_one_owner_is_the_end_of_its_claim(tx: Tx) -> None:
    task = board.put(tx, "hard", TaskSource.SEAT, by="run").id
    first, second = session(tx, "agent-01/1"), session(tx, "agent-02/1")
    board.claim(tx, task, first)
    for number in range(3):
        assert board.worn_out(tx.db, first, task) == ""
        bounce(tx, task, first, number)
    assert board.worn_out(tx.db, first, task) == "3 changes for it bounced: C1, C2, C3"
    assert board.worn_out(tx.db, first, "T99") == ""
    board.release(tx, first, "worn out")
    assert board.worn_out(tx.db, first, task) == ""
    board.claim(tx, task, second)
    bounce(tx, task, second, 3)
    assert board.worn_out(tx.db, second, task) == ""  # the counter starts again, the history stays
    assert board.get(tx.db, task).bounces == 4
    told = describe(tx.db, board.get(tx.db, task), "agent-03/1")
    assert "C1 of agent-01/1 bounced: > loses torture/0" in told and "ERROR of a program" not in told


def test_three_bounces_give_the_task_back_and_end_the_session_through_a_kill() -> None:
    """A task that nobody can do: each owner bounces three times, and the third owner's are the last."""
    with yard() as place:
        project, team = small_project(place.folder / "small", ["red"]), place.folder / "team.toml"
        small_team(team, ["red"], calls=lambda part: [shell(SPOILT.format(part)), SUBMIT])
        again = '{ tool = "submit", summary = "Again" }'
        with team.open("a") as script:
            script.write(f"on_bounce = [ [ {again}, {again}, {again} ] ]\n")
        run = place.create(project, 1, models={"": f"scripted:{team}"}, budget=50_000_000)
        run.serve()
        run.until("SELECT 1 FROM change WHERE state = 'bounced' AND id = 'C3'")
        run.kill()
        run.serve()
        run.finish()
        assert faults(run) == []
        assert [tuple(row) for row in run.rows("SELECT state, bounces, releases FROM task")] == [("ready", 9, 3)]
        assert run.rows("SELECT 1 FROM session WHERE \"end\" <> 'released'") == []
        assert run.one("SELECT count(*) FROM session") == 3
        third = run.results("submit")[2]
        assert "3 changes for it bounced: C1, C2, C3. It goes back to the board with this history" in third
        assert third.startswith("C3 bounced: loses parts/a-base") and third.endswith("T1 released, work kept")
        assert "C3 of agent-01/1 bounced: > loses parts/a-base" in run.results("claim")[1]
