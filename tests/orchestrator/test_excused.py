"""What main may lose: flaky cases in quarantine, waivers; and where the ratchet, the board and the counts heed them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from orchestrator import board, clusters, excused
from orchestrator.briefing import Show, render_tasks
from orchestrator.control import Refusal
from orchestrator.records import Change, ChangeState, Session, Task, TaskSource, TaskState
from orchestrator.store import Store, Tx, changes, reading, rows
from orchestrator.store.store import iso, migrate, read_payload
from orchestrator.watch.queries import SQL
from tests.orchestrator.running import small_project, small_team, yard
from tests.orchestrator.test_board import session
from tests.orchestrator.test_gate import Oracle, settle
from tests.orchestrator.test_gate import queued as at_the_gate
from tests.orchestrator.test_open_seats import seat
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
CASES = [f"torture/{name}" for name in "abcdefgh"] + ["unit/one"]
EVIDENCE = "passed and failed on main 4f2a91c, 2 of 3 runs"


@pytest.fixture
def tx() -> Iterator[Tx]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    yield Tx(db, 1, NOW)
    db.close()


class Mains:
    """Mains that are judged and land, one a minute. The first, all of whose cases pass, is there."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.number = 0
        self.judged()

    def judged(self, *failing: str, closes: str = "") -> None:
        """One more main, in the order in which a landing writes it; with the change for a task, if one is named."""
        self.number += 1
        self.tx.now += timedelta(minutes=1)
        verdicts = {
            case: Verdict(case, Outcome.FAIL if case in failing else Outcome.PASS, reason="exit 1") for case in CASES
        }
        card = Scorecard(f"t{self.number}", "full", Build(True, 1.0), verdicts)
        changes.add_scorecard(self.tx, card, commit=f"m{self.number}")
        self.tx.now += timedelta(seconds=1)
        clusters.update_board(self.tx, card)
        if closes:
            board.close(self.tx, closes, f"C{self.number} landed")


@pytest.fixture
def mains(tx: Tx) -> Mains:
    return Mains(tx)


def waive(tx: Tx, *names: str, reason: str = "a rewrite", hours: float = 2, by: str = "ada") -> None:
    excused.waive(tx, names, reason, tx.now + timedelta(hours=hours), by)


def told(tx: Tx, kind: str) -> list[str]:
    return [row["data"] for row in tx.db.execute("SELECT data FROM journal WHERE kind = ? ORDER BY seq", (kind,))]


def tasks(tx: Tx) -> list[Task]:
    return rows.find(tx.db, Task, "ORDER BY number")


# -- quarantine


def test_a_flaky_case_gets_a_record_news_and_a_task_with_the_evidence_once(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    excused.quarantine(tx, {"torture/a": "something else", "torture/b": EVIDENCE})
    assert excused.excused(tx.db, tx.now) == excused.flaky(tx.db) == {"torture/a", "torture/b"}
    assert [(one.title, one.source, one.state) for one in tasks(tx)] == [
        ("torture/a is flaky on main", TaskSource.FLAKY, TaskState.READY),
        ("torture/b is flaky on main", TaskSource.FLAKY, TaskState.READY),
    ]
    assert tasks(tx)[0].why.startswith(EVIDENCE)
    assert len(told(tx, "quarantined")) == 2 and EVIDENCE in told(tx, "quarantined")[0]


def test_a_flaky_case_is_in_no_other_task_however_often_it_fails(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    mains.judged("torture/a", "torture/b")
    assert [one.cases for one in tasks(tx)[1:]] == [("torture/b",)]
    mains.judged("torture/a")
    assert [one.id for one in board.open_tasks(tx.db)] == ["T1"]


@pytest.mark.parametrize("held", [False, True])
def test_a_case_that_turns_out_flaky_leaves_the_group_that_it_was_in(held: bool, tx: Tx, mains: Mains) -> None:
    mains.judged("torture/a", "torture/b")
    if held:
        board.claim(tx, "T1", session(tx, "agent-02/1"))
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    mains.judged("torture/a", "torture/b")
    assert tasks(tx)[0].cases == ("torture/b",)


def test_a_task_of_several_cases_does_not_wait_for_the_flaky_one(tx: Tx, mains: Mains) -> None:
    mains.judged("torture/a", "torture/b")
    made = board.add_task(tx, "both", TaskSource.PLANNER, by="p", cases=["torture/[ab]"]).id
    alone = board.add_task(tx, "alone", TaskSource.PLANNER, by="p", cases=["torture/a"]).id
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    mains.judged("torture/a")
    assert (board.get(tx.db, made).state, board.get(tx.db, made).reason) == (TaskState.CLOSED, "1 of 1 cases pass")
    mains.judged()
    assert board.get(tx.db, alone).state is TaskState.READY  # passing once is what a flaky case does


def test_passing_by_itself_however_often_ends_no_quarantine(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    for _ in range(3 * excused.STEADY):
        mains.judged()
    assert excused.flaky(tx.db) == {"torture/a"}
    assert tasks(tx)[0].state is TaskState.READY


def test_a_mended_case_counts_again_after_so_many_mains_in_a_row(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE, "torture/b": EVIDENCE})
    mains.judged(closes="T1")
    for _ in range(excused.STEADY - 1):
        mains.judged()
    assert excused.flaky(tx.db) == {"torture/a", "torture/b"}
    mains.judged()
    assert excused.flaky(tx.db) == {"torture/b"}
    (event,) = told(tx, "excuse-ended")
    assert f"passed on {excused.STEADY} mains in a row since T1" in event and '"by": "run"' in event
    excused.quarantine(tx, {"torture/a": EVIDENCE})  # should it disagree with itself once more
    assert excused.flaky(tx.db) == {"torture/a", "torture/b"}


def test_a_mended_case_that_fails_again_is_a_task_again_and_starts_anew(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    mains.judged(closes="T1")
    for _ in range(excused.STEADY - 1):
        mains.judged()
    mains.judged("torture/a")
    (again,) = board.open_tasks(tx.db)
    assert again.title == "torture/a is flaky on main" and "did not pass on main after T1 (C2 landed)" in again.why
    for _ in range(excused.STEADY):
        mains.judged()
    assert excused.flaky(tx.db) == {"torture/a"}
    mains.judged(closes=again.id)
    for _ in range(excused.STEADY):
        mains.judged()
    assert excused.flaky(tx.db) == frozenset()


def test_a_mended_case_that_vanished_is_not_steady(tx: Tx, mains: Mains, monkeypatch: pytest.MonkeyPatch) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE, "unit/one": EVIDENCE})
    mains.judged(closes="T1")
    board.close(tx, "T2", "C2 landed")
    monkeypatch.setitem(globals(), "CASES", CASES[1:-1])  # torture is judged without its case, and unit not at all
    mains.judged()
    assert [one.title for one in board.open_tasks(tx.db)] == ["torture/a is flaky on main"]


def test_a_planner_may_merge_the_task_and_the_case_follows_it(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE, "torture/b": EVIDENCE})
    board.merge(tx, "T2", ["T1"], "agent-01/1")
    mains.judged(closes="T2")
    for _ in range(excused.STEADY):
        mains.judged()
    assert excused.flaky(tx.db) == frozenset()


def test_a_person_ends_a_quarantine_and_the_task_about_it(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE, "torture/b": EVIDENCE})
    board.claim(tx, "T2", session(tx, "agent-02/1"))
    excused.waive(tx, ["torture/*"], "", None, "ada")
    assert excused.excused(tx.db, tx.now) == frozenset()
    assert [(one.state, one.reason) for one in tasks(tx)] == [
        (TaskState.CLOSED, "torture/a is no longer flaky: said so"),
        (TaskState.CLAIMED, ""),  # somebody works on it
    ]
    excused.waive(tx, ["torture/*"], "", None, "ada")
    assert len(told(tx, "excuse-ended")) == 1


# -- waivers


def test_a_waiver_ends_by_itself(tx: Tx, mains: Mains) -> None:
    waive(tx, "torture/a", hours=2)
    until = tx.now + timedelta(hours=2)
    assert excused.excused(tx.db, until - timedelta(seconds=1)) == {"torture/a"}
    assert excused.excused(tx.db, until) == frozenset()
    assert excused.flaky(tx.db) == frozenset()
    shown = [tx.db.execute(SQL["excused"], {"at": iso(at)}).fetchall() for at in (tx.now, until)]
    assert [len(found) for found in shown] == [1, 0]
    tx.now = until
    waive(tx, "torture/a", reason="once more")
    assert [one.reason for one in excused.standing(tx.db, tx.now)] == ["once more"]


def test_a_waived_case_that_fails_is_still_somebodys_task(tx: Tx, mains: Mains) -> None:
    waive(tx, "torture/a")
    mains.judged("torture/a")
    assert [one.cases for one in tasks(tx)] == [("torture/a",)]


def test_waiving_again_changes_what_is_new_and_nothing_else(tx: Tx, mains: Mains) -> None:
    until = tx.now + timedelta(hours=1)
    for _ in range(2):
        excused.waive(tx, ["torture/a", "torture/a"], "a rewrite", until, "ada")
    assert len(told(tx, "waived")) == 1
    excused.waive(tx, ["torture/[ab]"], "a rewrite", until, "ada")
    assert '"cases": ["torture/b"]' in told(tx, "waived")[1]
    excused.waive(tx, ["torture/a"], "a rewrite", until + timedelta(hours=1), "ben")
    assert [(one.case, one.by) for one in excused.standing(tx.db, tx.now)] == [
        ("torture/b", "ada"),
        ("torture/a", "ben"),
    ]


@pytest.mark.parametrize(
    ("names", "reason", "hours", "kind", "words"),
    [
        (["torture/nope"], "why", 1, "not_found", "no case of main is or matches 'torture/nope'"),
        (["torture/held-1"], "why", 1, "not_found", "no case of main"),
        (["torture/a"], " \n", 1, "usage", "needs a reason"),
        (["torture/a"], "why", 0, "usage", "in the future"),
        (["torture/a"], "why", 24 * 31, "usage", "at most 30 days"),
        (["*"], "why", 1, "refused", "0 are waived, this adds 9; at most 8 at once"),
    ],
)
def test_a_waiver_that_is_none_is_refused_in_words(
    names: list[str],
    reason: str,
    hours: float,
    kind: str,
    words: str,
    tx: Tx,
    mains: Mains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(excused, "WAIVED", 8)
    hidden = Scorecard("t", "heldout", Build(True, 1.0), {"torture/held-1": Verdict("torture/held-1", Outcome.PASS)})
    changes.add_scorecard(tx, hidden, commit="m1")
    with pytest.raises(Refusal, match=words.replace("*", r"\*")) as refused:
        excused.waive(tx, names, reason, tx.now + timedelta(hours=hours), "ada")
    assert refused.value.kind == kind
    assert excused.standing(tx.db, tx.now) == [] and told(tx, "waived") == []


def test_few_are_waived_at_once_over_all_waivers(tx: Tx, mains: Mains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excused, "WAIVED", 3)
    excused.quarantine(tx, {"torture/h": EVIDENCE})  # which is no waiver
    waive(tx, "torture/a", "torture/b", hours=1)
    waive(tx, "torture/b", "torture/c")
    with pytest.raises(Refusal, match="3 are waived, this adds 1"):
        waive(tx, "torture/d")
    tx.now += timedelta(hours=1)  # now a's waiver is over
    waive(tx, "torture/d")


def test_ending_what_was_never_excused_is_refused(tx: Tx, mains: Mains) -> None:
    with pytest.raises(Refusal, match="no case that was ever waived or flaky is or matches 'torture/a'"):
        excused.waive(tx, ["torture/a"], "", None, "ada")


# -- where it counts


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", ["waived", "flaky", "expired", "neither"])
async def test_the_gate_lets_go_what_is_excused_and_nothing_else(how: str, tmp_path: Path) -> None:
    """Main passes c/a. The change, made on the seed, fails it twice and passes c/b."""
    first, judged = {"c/a": "", "c/b": "no linker"}, {"c/a": "broken", "c/b": ""}
    seed = {"c/a": "no parser", "c/b": "no parser"}
    oracle = Oracle(seed, judged, {"c/a": "broken"}, {"c/b": ""})
    gate, change = await at_the_gate(tmp_path, oracle)
    main = (await gate.judge_main()).tree

    def work(tx: Tx) -> None:
        verdicts = {
            case: Verdict(case, Outcome.FAIL if why else Outcome.PASS, reason=why) for case, why in first.items()
        }
        card = Scorecard(main, "full", Build(True, 1.0), verdicts)
        changes.add_scorecard(tx, card, commit=change.base)
        if how == "flaky":
            excused.quarantine(tx, {"c/a": EVIDENCE})
        if how in ("waived", "expired"):
            excused.waive(
                tx, ["c/a"], "a rewrite", tx.now + timedelta(seconds=0.001 if how == "expired" else 3600), "ada"
            )

    await gate.store.write(work)
    gate._newest.clear()
    if how in ("waived", "flaky"):
        oracle.left.pop(1)  # nothing is lost, so nothing is judged again
    await anyio.sleep(0.01)
    await settle(gate, change)
    ended = await gate.store.read(lambda db: rows.get(db, Change, "C1"))
    lands = how in ("waived", "flaky")
    assert (ended.state, ended.lost) == ((ChangeState.LANDED, ()) if lands else (ChangeState.BOUNCED, ("c/a",)))
    await gate.store.close()


def test_the_board_begins_with_what_main_may_lose(tx: Tx, mains: Mains) -> None:
    excused.quarantine(tx, {"torture/a": EVIDENCE})
    waive(tx, "torture/b", hours=26)
    lines = render_tasks(tx.db, Show.READY, tx.now).splitlines()
    assert lines[:3] == [
        "1 ready, 0 claimed, 0 waiting, 0 closed or dropped",
        "flaky, not counted as passing: torture/a (T1)",
        "waived, may be lost: torture/b until 15 Mar 19:01",
    ]
    assert render_tasks(tx.db, Show.READY, tx.now + timedelta(hours=26)).count("waived") == 0


def test_no_flaky_case_counts_as_passing() -> None:
    verdicts = {case: Verdict(case, Outcome.PASS) for case in CASES}
    card = Scorecard("t", "full", Build(True, 1.0), verdicts)
    assert card.counts({"torture/a", "other/x"}) == {"torture": (7, 8), "unit": (1, 1)}


# -- a person, and a run that lives


def test_a_change_lands_that_loses_what_a_person_waived_and_not_before() -> None:
    with yard() as place:
        run = place.start(small_project(place.folder / "project", ("red", "green")), "open", 1)
        run.until("SELECT 1 FROM scorecard")
        token = seat(run, "", "take")["token"]
        seat(run, token, "claim", run.one("SELECT id FROM task WHERE cases LIKE '%a-red%'"))
        seat(run, token, "shell", "echo red >parts/red && echo other >parts/base")
        assert "loses parts/a-base" in seat(run, token, "submit", "--summary", "Red", code=1)["text"]
        asked = ("waive", "parts/a-ba*", run.name, "--reason", "base is cut anew")
        assert place.say(*asked, "--until", "2h", "--dry-run").returncode == 0
        assert run.rows("SELECT 1 FROM excuse") == []
        assert place.say(*asked, "--until", "2h").returncode == 0
        assert "waived     parts/a-base until " in place.say("status").stdout
        seat(run, token, "submit", "--summary", "Red", "--fixes", "parts/a-red")
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        assert "waived, may be lost: parts/a-base until " in seat(run, token, "take")["board"]
        assert run.one("SELECT count(*) FROM task WHERE cases LIKE '%a-base%' AND state = 'ready'") == 1
        assert place.say("waive", "parts/a-base", run.name, "--end").returncode == 0
        refused = place.say("waive", "parts/none", run.name, "--reason", "why", "--until", "2h")
        assert (refused.returncode, refused.stderr.count("no case of main is or matches")) == (4, 1), refused.stderr
        assert place.say("stop", run.name, "--now").returncode == 0
        kinds = "SELECT kind FROM journal WHERE kind IN ('waived', 'excuse-ended') ORDER BY seq"
        assert [row["kind"] for row in run.rows(kinds)] == ["waived", "excuse-ended"]
        assert place.say("waive", "parts/a-red", "--reason", "why", "--until", "2h").returncode == 0  # no process lives
        assert "parts/a-red until " in place.say("status").stdout


def test_a_run_with_a_flaky_case_has_not_reached_its_goal() -> None:
    """All of its cases pass; the case in quarantine counts for nothing, and nobody of the team can mend it."""

    async def doubt(state: Path) -> None:
        store = Store(state, lambda: datetime.now(UTC))
        await store.begin_epoch()
        await store.write(lambda tx: excused.quarantine(tx, {"parts/a-base": EVIDENCE}))
        await store.close()

    with yard() as place:
        team = small_team(place.folder / "team.toml", ["red"])
        project = small_project(place.folder / "small", ["red"])
        run = place.create(project, 1, models={"": f"scripted:{team}"}, budget=50_000_000)
        anyio.run(doubt, run.db)
        run.serve()
        run.finish()
        assert set(run.judged().values()) == {"PASS"}
        with reading(run.db) as db:
            first, *_ = rows.find(db, Session, "ORDER BY number")
            assert ", parts 0/2." in read_payload(db, first.opening).decode()
        assert run.one("SELECT reason FROM run").startswith("nothing left")
        assert re.search(r"parts 1/2 \(50\.0 %.*, 1 flaky\)", place.say("status").stdout)
        assert [answer.partition("\n")[0][-9:] for answer in run.results("tasks")][-1] == "parts 1/2"
