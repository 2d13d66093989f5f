from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.tools import End
from orchestrator import board, clusters
from orchestrator.board import Refused
from orchestrator.briefing import LINES, Show, locks, note_lines, render_tasks, sync_locks
from orchestrator.ramp import next_task
from orchestrator.records import Change, ChangeState, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.store import Tx, changes, rows, sessions
from orchestrator.store.store import migrate
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
KNOWN = [f"torture/{name}" for name in "abcdefgh"] + ["unit/one", "unit/two"]


@pytest.fixture
def tx() -> Tx:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    return Tx(db, 1, NOW)


def session(tx: Tx, name: str) -> str:
    seat, number = name.split("/")
    made = Session(name, seat, int(number), "builder", "scripted:x", SessionState.ACTIVE, tx.now, "base")
    sessions.start(tx, made)
    return name


def planned(tx: Tx, title: str, *cases: str, touches: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> str:
    made = board.add_task(
        tx, title, TaskSource.PLANNER, by="agent-01/1", cases=cases, touches=touches, after=after, known=KNOWN
    )
    return made.id


def queued(tx: Tx, task: str, *fixes: str, by: str = "agent-09/1") -> str:
    number = rows.next_number(tx, "change")
    name = f"C{number}"
    state = ChangeState.QUEUED
    changes.add(tx, Change(name, by, "agent-09", task, state, NOW, "b", "c", "t", f"{by}.{number}", fixes=fixes))
    return name


def get(tx: Tx, task: str) -> Task:
    return rows.get(tx.db, Task, task)


def ids(tx: Tx) -> list[str]:
    return [task.id for task in board.ready(tx.db)]


def test_ids_come_from_the_board_and_titles_are_one_clean_line(tx: Tx) -> None:
    first = board.add_task(tx, "  bit-fields\n\x1b[31mwider\u202e than int  ", TaskSource.SEAT, by="agent-01/1")
    assert (first.id, first.title) == ("T1", "bit-fields [31mwider than int")
    second = board.add_task(tx, "x" * 500, TaskSource.SEAT, by="agent-01/1")
    assert second.id == "T2" and len(second.title) == board.TITLE
    with pytest.raises(Refused, match="title"):
        board.add_task(tx, "\x00\n", TaskSource.SEAT, by="agent-01/1")


@pytest.mark.parametrize(
    ("changes_of", "words"),
    [
        ({"cases": ["torture/nope"]}, "no visible case"),
        ({"cases": ["works"]}, "no visible case"),
        ({"touches": ["../other"]}, "not a folder"),
        ({"touches": ["/etc"]}, "not a folder"),
        ({"after": ["T99"]}, "no task T99"),
        ({"cases": ["torture/a"] * 500}, "at most"),
    ],
)
def test_a_planner_is_told_what_names_nothing(tx: Tx, changes_of: dict[str, list[str]], words: str) -> None:
    with pytest.raises(Refused, match=words):
        board.add_task(tx, "title", TaskSource.PLANNER, by="p", known=KNOWN, **changes_of)  # type: ignore[arg-type]
    assert rows.find(tx.db, Task) == []


def test_a_double_is_refused_with_what_exists(tx: Tx) -> None:
    first = planned(tx, "Lexer", "torture/a", "torture/b")
    with pytest.raises(Refused, match=f"{first} has this title"):
        planned(tx, "lexer")
    with pytest.raises(Refused, match=first):
        planned(tx, "other words", "torture/b", "torture/a")
    board.claim(tx, first, session(tx, "agent-02/1"))
    with pytest.raises(Refused, match="agent-02/1 works on these cases"):
        planned(tx, "a part of it", "torture/a")


def test_one_live_session_for_a_task_and_one_task_for_a_session(tx: Tx) -> None:
    one, two = planned(tx, "one"), planned(tx, "two")
    a, b = session(tx, "agent-01/1"), session(tx, "agent-02/1")
    held = board.claim(tx, one, a, "1\n2\n3\n4\n5", ["src/"])
    assert held.plan.count("\n") == 2 and held.touches == ("src",)
    assert board.claim(tx, one, a) == held
    with pytest.raises(Refused, match="agent-01/1 works on T1 since 17:00"):
        board.claim(tx, one, b)
    with pytest.raises(Refused, match="you hold T1"):
        board.claim(tx, two, a)
    with pytest.raises(Refused, match="you hold T1"):
        board.claim(tx, board.add_task(tx, "another", TaskSource.SEAT, by=a).id, a)
    sessions.end(tx, b, End.FINISHED)
    with pytest.raises(Refused, match="has ended"):
        board.claim(tx, two, b)
    with pytest.raises(Refused, match="no task T77"):
        board.claim(tx, "T77", b)


def test_a_claim_ends_with_its_task_its_release_or_its_session(tx: Tx) -> None:
    a = session(tx, "agent-01/1")
    for ending in ("release", "close", "session"):
        task = planned(tx, ending)
        board.claim(tx, task, a)
        if ending == "release":
            assert board.release(tx, a, "already passes", "look at abi.rs") == f"{task} released, work kept"
            assert get(tx, task).releases == 1
            assert note_lines(tx.db, get(tx, task)) == ["agent-01/1: > look at abi.rs"]
        elif ending == "close":
            board.close(tx, task, "done")
            board.close(tx, task, "again")
            assert get(tx, task).reason == "done"
        else:
            board.release(tx, a, "crashed", gave_up=False)
            assert get(tx, task).releases == 0
        assert board.claims(tx.db) == []
    with pytest.raises(Refused, match="hold no task"):
        board.release(tx, a, "why")


def test_after_a_resume_sessions_that_go_on_keep_their_claims_and_others_lose_them(tx: Tx) -> None:
    a, b = session(tx, "agent-01/1"), session(tx, "agent-02/1")
    board.claim(tx, planned(tx, "one"), a)
    board.claim(tx, planned(tx, "two"), b)
    later = Tx(tx.db, 2, NOW)
    board.recover(later, {a})
    assert [(held.session, held.epoch) for held in board.claims(tx.db)] == [(a, 2)]
    assert ids(tx) == ["T2"]


def test_a_task_waits_for_what_it_comes_after_until_that_is_over(tx: Tx) -> None:
    first = planned(tx, "first")
    second = planned(tx, "second", after=(first,))
    assert ids(tx) == [first]
    with pytest.raises(Refused, match=f"waits for {first}"):
        board.claim(tx, second, session(tx, "agent-01/1"))
    board.close(tx, first, "done")
    assert ids(tx) == [second]


def test_what_a_queued_change_promises_to_fix_is_held_by_it_until_it_ends(tx: Tx) -> None:
    task = planned(tx, "two cases", "torture/a", "torture/b")
    part = queued(tx, "", "torture/a")
    assert ids(tx) == [task]
    rest = queued(tx, "", "torture/b", "torture/c")
    assert ids(tx) == []
    with pytest.raises(Refused, match=f"{rest} in the merge queue already fixes {task}"):
        board.claim(tx, task, session(tx, "agent-01/1"))
    changes.finish(tx, rows.get(tx.db, Change, rest), ChangeState.BOUNCED)
    assert ids(tx) == [task]
    own = queued(tx, task)
    assert ids(tx) == []
    for change in (own, part):
        changes.finish(tx, rows.get(tx.db, Change, change), ChangeState.WITHDRAWN)
    assert ids(tx) == [task]


def test_best_first_is_order_then_cases_then_fewer_failures_then_age(tx: Tx) -> None:
    small = planned(tx, "small", "torture/a")
    tried = planned(tx, "tried", "torture/b")
    later = planned(tx, "later", "unit/one")
    large = planned(tx, "large", "torture/c", "torture/d")
    first = planned(tx, "first")
    changes.bounce(tx, rows.get(tx.db, Change, queued(tx, small)), "loses torture/b")
    board.order(tx, [first], "agent-01/1")
    assert ids(tx) == [first, large, tried, later, small]
    board.order(tx, [small, tried], "agent-01/1")
    assert ids(tx)[:2] == [small, tried] and ids(tx)[-1] == first


def test_a_task_that_three_owners_gave_back_is_set_aside_until_it_is_cut_anew(tx: Tx) -> None:
    task = planned(tx, "hard", "torture/a")
    for number in range(1, board.SET_ASIDE + 1):
        assert ids(tx) == [task]
        board.claim(tx, task, session(tx, f"agent-01/{number}"))
        board.release(tx, f"agent-01/{number}", "stuck")
    assert ids(tx) == []
    assert render_tasks(tx.db, Show.STUCK, NOW).splitlines()[1].startswith(task)
    half = planned(tx, "half of it", "torture/b", after=())
    waiting = planned(tx, "what needs it", after=(task,))
    assert ids(tx) == [half]
    board.drop_task(tx, task, "cut anew", "agent-01/1")
    assert ids(tx) == [half, waiting]


def test_merging_gives_cases_and_dependants_to_the_one_that_is_kept(tx: Tx) -> None:
    kept, other = planned(tx, "kept", "torture/a", touches=("src/a",)), planned(tx, "other", "torture/b")
    waiting = planned(tx, "waiting", after=(other,))
    merged = board.merge(tx, kept, [other], "agent-01/1")
    assert merged.cases == ("torture/a", "torture/b")
    assert get(tx, waiting).after == (kept,)
    assert get(tx, other).reason == f"merged into {kept}"
    with pytest.raises(Refused, match="itself"):
        board.merge(tx, kept, [kept], "agent-01/1")
    board.close(tx, kept, "done")
    board.claim(tx, waiting, session(tx, "agent-01/1"))
    with pytest.raises(Refused, match="agent-01/1 works on"):
        board.drop_task(tx, waiting, "no longer wanted", "agent-01/1")


def test_a_task_closes_when_all_that_its_ids_and_patterns_mean_passes(tx: Tx) -> None:
    exact, pattern = planned(tx, "exact", "torture/a"), planned(tx, "pattern", "unit/*", "torture/a")
    none = planned(tx, "no cases")
    holder = session(tx, "agent-01/1")
    board.claim(tx, pattern, holder)
    clusters.update_board(tx, card({"unit/two": Verdict("unit/two", Outcome.FAIL)}, "torture/a", "unit/one"))
    assert get(tx, exact).state is TaskState.CLOSED and [held.task for held in board.claims(tx.db)] == [pattern]
    clusters.update_board(tx, card({}, "torture/a", "unit/one", "unit/two"))
    assert get(tx, pattern).reason == "3 of 3 cases pass" and board.claims(tx.db) == []
    assert get(tx, none).state is TaskState.READY


def fail(*names: str, why: str = "exit 134") -> dict[str, Verdict]:
    return {f"torture/{name}": Verdict(f"torture/{name}", Outcome.FAIL, reason=why) for name in names}


def card(failing: Mapping[str, Verdict], *passing: str) -> Scorecard:
    passed = {case: Verdict(case, Outcome.PASS) for case in passing}
    return Scorecard("t", "full", Build(True, 0.0), {**passed, **failing})


def test_failing_cases_become_one_task_for_each_signature(tx: Tx) -> None:
    everything = fail(*map(str, range(1281)), why="no main function")
    clusters.update_board(tx, card(everything))
    (only,) = board.ready(tx.db)
    assert only.title == "torture: 1281 cases: no main function" and len(only.cases) == 1281
    few = fail("1", "2") | fail("3", why="wrong output")
    clusters.update_board(tx, card(few, *(everything.keys() - few.keys())))
    assert get(tx, only.id).state is TaskState.CLOSED
    assert {task.title for task in board.ready(tx.db)} == {"torture: 2 cases: exit 134", "torture/3: wrong output"}
    before = rows.find(tx.db, Task)
    clusters.update_board(tx, card(few))
    assert rows.find(tx.db, Task) == before


def test_a_claimed_group_keeps_its_failing_cases_however_they_fail_by_now(tx: Tx) -> None:
    clusters.update_board(tx, card(fail("a", "b", "c")))
    board.claim(tx, "T1", session(tx, "agent-01/1"))
    clusters.update_board(tx, card(fail("b", why="wrong output") | fail("d"), "torture/a"))
    assert ids(tx) == []
    assert get(tx, "T1").cases == ("torture/b", "torture/c", "torture/d")
    board.release(tx, "agent-01/1", "landed", gave_up=False)
    clusters.update_board(tx, card(fail("b", why="wrong output"), "torture/a", "torture/c", "torture/d"))
    assert [task.cases for task in board.ready(tx.db)] == [("torture/b",)]
    assert get(tx, "T1").state is TaskState.CLOSED


def test_a_landed_change_leaves_its_task_the_cases_that_fail_as_before(tx: Tx) -> None:
    task = planned(tx, "structs", "torture/a", "torture/b", "torture/c")
    then, now = fail("a", "b", "c"), fail("b") | fail("c", why="bit-field")
    clusters.give_back(tx, task, card(then), card(now, "torture/a"))
    clusters.update_board(tx, card(now, "torture/a"))
    assert get(tx, task).cases == ("torture/a", "torture/b")
    assert [other.cases for other in board.ready(tx.db) if other.id != task] == [("torture/c",)]


def test_a_planner_changes_what_is_given_and_empties_what_is_given_empty(tx: Tx) -> None:
    first = planned(tx, "first", "torture/a")
    second = board.add_task(tx, "second", TaskSource.PLANNER, by="p", touches=["src"], after=[first]).id
    board.rewrite(tx, second, "better", by="p")
    assert (get(tx, second).title, get(tx, second).touches, get(tx, second).after) == ("better", ("src",), (first,))
    board.rewrite(tx, second, "", by="p", touches=[], after=[])
    assert (get(tx, second).title, get(tx, second).touches, get(tx, second).after) == ("better", (), ())


def test_what_a_planner_decided_about_a_group_outlives_the_next_look(tx: Tx) -> None:
    failing = fail("a", "b") | fail("c", why="wrong output") | fail("d", why="hangs") | fail("e", "f", why="link")
    clusters.update_board(tx, card(failing))
    by = {task.cases[0]: task.id for task in board.ready(tx.db)}
    board.drop_task(tx, by["torture/c"], "the goal excludes it", "agent-01/1")
    board.merge(tx, by["torture/a"], [by["torture/d"]], "agent-01/1")
    part = planned(tx, "only e", "torture/e")
    assert get(tx, by["torture/e"]).cases == ("torture/f",)
    before = ids(tx)
    clusters.update_board(tx, card(failing))
    assert ids(tx) == before
    assert get(tx, by["torture/a"]).cases == ("torture/a", "torture/b", "torture/d")
    assert get(tx, part).cases == ("torture/e",)


def seating(tx: Tx, roles: dict[str, str], *working: str, passing: bool = True) -> list[str]:
    """For each seat the task it begins with, why it is idle, or itself where it works."""

    def place(seat: str) -> str:
        live = {name: f"{name}/1" for name in working}
        try:
            return seat if seat in live else next_task(tx.db, seat, roles, live, any_case_passes=passing)
        except Refused as idle:
            return str(idle).removeprefix("no case passes yet; ")

    return [place(seat) for seat in roles]


def test_the_ramp_starts_one_seat_then_one_for_each_task_in_folders_of_its_own(tx: Tx) -> None:
    planned(tx, "parser", "torture/a", "torture/b", "torture/c", touches=("src/parse",))
    planned(tx, "expressions", "torture/d", "torture/e", touches=("src/parse/expr.rs",))
    planned(tx, "linker", touches=("src/parser",))
    builders = {"agent-01": "builder", "agent-02": "builder"}
    seats = {**builders, "agent-03": "planner"}
    assert seating(tx, seats, passing=False) == ["agent-03 works alone", "agent-03 works alone", ""]
    assert seating(tx, builders, passing=False) == ["T1", "agent-01 works alone"]
    assert seating(tx, builders, "agent-02", passing=False) == ["agent-02 works alone", "agent-02"]
    assert seating(tx, seats) == ["T1", "T3", ""]
    builders["agent-04"] = "builder"
    assert seating(tx, builders) == ["T1", "T3", "each of the 3 ready tasks is spoken for or in folders of others"]
    assert seating(tx, builders, "agent-01")[1] == "T3"  # who works and holds nothing will take T1
    board.claim(tx, "T1", session(tx, "agent-01/1"))
    after = seating(tx, builders, "agent-01")
    assert after[1] == "T3" and after[2].startswith("each of the 2 ready tasks")


def test_a_planner_waits_until_something_has_happened_since_its_last_session(tx: Tx) -> None:
    seats = {"agent-01": "planner", "agent-02": "builder"}
    for passing in (True, False):
        assert seating(tx, seats, passing=passing)[0] == ""
        tx.journal("session-ended", "agent-01", session="agent-01/1", end="ended", note="", turns=1)
        assert seating(tx, seats, passing=passing)[0].startswith("nothing has landed, bounced or been released")
        tx.journal("task-closed", task="T1", reason="done")
        assert seating(tx, seats, passing=passing)[0] == ""


def test_a_seat_stays_idle_once_everybody_gave_up_on_every_task(tx: Tx) -> None:
    builders = {"agent-01": "builder", "agent-02": "builder"}
    assert seating(tx, builders, passing=False) == ["", "agent-01 works alone"]  # an empty board: it finds its own
    planned(tx, "impossible")
    for number in range(1, board.SET_ASIDE + 1):
        board.claim(tx, "T1", session(tx, f"agent-01/{number}"))
        board.release(tx, f"agent-01/{number}", "too hard")
    assert seating(tx, builders, passing=False) == ["no task is ready", "agent-01 works alone"]


def test_a_planner_rests_while_two_tasks_are_ready_for_each_builder(tx: Tx) -> None:
    seats = {"agent-01": "planner", "agent-02": "builder"}
    assert seating(tx, seats) == ["", "no task is ready"]
    planned(tx, "one")
    assert seating(tx, seats) == ["", "T1"]
    planned(tx, "two")
    assert seating(tx, seats) == ["2 tasks are ready", "T1"]


def test_a_planner_that_found_nothing_more_to_do_does_not_stop_the_team(tx: Tx) -> None:
    """No case passes yet, and its session has ended with a board and no change: a builder is the one who works then."""
    seats = {"agent-01": "planner", "agent-02": "builder", "agent-03": "builder"}
    assert seating(tx, seats, passing=False) == ["", "agent-01 works alone", "agent-01 works alone"]
    planned(tx, "one")
    sessions.end(tx, session(tx, "agent-01/1"), End.FINISHED)
    rests = "nothing has landed, bounced or been released since its last session"
    assert seating(tx, seats, passing=False) == [rests, "T1", "agent-02 works alone"]
    board.claim(tx, "T1", session(tx, "agent-02/1"))
    board.release(tx, "agent-02/1", "too hard")
    assert seating(tx, seats, passing=False) == ["", "agent-01 works alone", "agent-01 works alone"]


def test_undeclared_folders_overlap_nothing() -> None:
    assert not board.overlap((), ("src",)) and not board.overlap(("src",), ())
    assert board.overlap(("src/a",), ("src",)) and board.overlap(("src",), ("src/a",))
    assert not board.overlap(("src/ab",), ("src/a",))


def test_lock_files_are_what_the_tables_say_whatever_became_of_them(tx: Tx, tmp_path: Path) -> None:
    folder = tmp_path / "current_tasks"
    a = session(tx, "agent-01/1")
    board.claim(tx, planned(tx, "task T9\nowner agent-07", "torture/a"), a, "first\nowner    agent-07\x1b[2J")
    sync_locks(folder, locks(tx.db))
    path = folder / "T1.txt"
    lines = path.read_text().splitlines()
    assert [line for line in lines if line.startswith("owner")] == ["owner    agent-01"]
    assert "> owner agent-07 [2J" in lines and "> task T9 owner agent-07" in lines
    path.write_text("torn")
    (folder / "T8.txt").write_text("stale")
    sync_locks(folder, locks(tx.db))
    assert path.read_text().splitlines() == lines and [file.name for file in folder.iterdir()] == ["T1.txt"]
    board.release(tx, a, "no")
    sync_locks(folder, locks(tx.db))
    assert list(folder.iterdir()) == []


def test_a_note_has_five_lines_and_replaces_the_sessions_earlier_one(tx: Tx) -> None:
    board.leave_note(tx, "agent-01/1", "T1", "\n".join(f"line {n}" for n in range(9)))
    assert board.notes(tx.db, "T1")[0].text.splitlines()[-1] == "line 4 …"
    board.leave_note(tx, "agent-01/1", "T1", "new")
    board.leave_note(tx, "agent-02/1", "T1", "other")
    assert sorted(note.text for note in board.notes(tx.db, "T1")) == ["new", "other"]
    with pytest.raises(Refused, match="needs a topic"):
        board.leave_note(tx, "agent-01/1", "T1", " \n ")


def test_the_list_begins_with_totals_and_says_who_tried_holds_and_waits(tx: Tx) -> None:
    lexer = planned(tx, 'lexer "\n', "torture/a", "torture/b", touches=("src/lex",))
    waiting = planned(tx, "parser", after=(lexer,))
    held = planned(tx, "held")
    a = session(tx, "agent-01/1")
    board.claim(tx, lexer, a)
    board.release(tx, a, "stuck", "tried a table\nno")
    board.claim(tx, held, a)
    text = render_tasks(tx.db, Show.ALL, NOW, session=a)
    assert text.splitlines() == [
        "1 ready, 1 claimed, 1 waiting, 0 closed or dropped",
        'T1 "lexer \'" · 2 cases, first torture/a · in src/lex · tried by agent-01/1 (1 released)',
        f'{waiting} "parser" · waits for T1',
        f'{held} "held" · held by agent-01/1 since 17:00',
    ]
    assert render_tasks(tx.db, Show.MINE, NOW, session=a).splitlines()[1:] == [text.splitlines()[3]]
    late = render_tasks(tx.db, Show.STUCK, NOW + timedelta(hours=3))
    assert late.splitlines()[1].startswith(held)
    board.claim(tx, lexer, session(tx, "agent-02/1"))
    board.release(Tx(tx.db, 1, NOW + timedelta(minutes=1)), "agent-02/1", "stuck", "T9 is ready")
    stuck = render_tasks(tx.db, Show.STUCK, NOW).splitlines()
    assert stuck[1].startswith(lexer) and stuck[2] == "    agent-02/1: > T9 is ready"
    for n in range(60):
        planned(tx, f"more {n}")
    lines = render_tasks(tx.db, Show.ALL, NOW, limit=1000).splitlines()
    assert len(lines) == LINES


def test_a_task_for_which_a_change_landed_comes_after_those_without_and_says_what_is_left(tx: Tx) -> None:
    done, fresh = planned(tx, "most", "torture/[a-d]"), planned(tx, "one", "unit/one")
    assert ids(tx) == [done, fresh]
    landed = rows.get(tx.db, Change, queued(tx, done, "torture/a", "torture/b", "torture/e"))
    changes.finish(tx, landed, ChangeState.LANDED, landed_as="m")
    assert ids(tx) == [fresh, done]
    main = card(fail("c", "d"), "torture/a", "torture/b", "torture/e")
    first, second = render_tasks(tx.db, Show.READY, NOW, card=main).splitlines()[1:3]
    assert "landed" not in first
    assert f"landed {landed.id}, 2 of 5 cases still fail" in second
    board.order(tx, [done], "agent-01/1")  # the planner's word goes before
    assert ids(tx) == [done, fresh]


def test_a_task_of_ones_own_is_refused_where_others_work_or_under_the_words_of_another(tx: Tx) -> None:
    a, b = session(tx, "agent-01/1"), session(tx, "agent-02/1")
    parse, emit = planned(tx, "Parse the casts", touches=("src/parse",)), planned(tx, "emit", touches=("src/emit",))
    board.refuse_twin(tx.db, "new", ["src/parse"], b)  # nobody works there
    with pytest.raises(Refused, match="T1 'Parse the casts' has the same words: claim T1"):
        board.refuse_twin(tx.db, "the casts: PARSE", [], b)
    board.claim(tx, parse, a)
    change = queued(tx, emit)
    with pytest.raises(Refused, match="T1 'Parse the casts' has the same words, held by agent-01/1"):
        board.refuse_twin(tx.db, "the casts: PARSE", [], b)
    with pytest.raises(Refused, match="agent-01/1 works on T1 'Parse the casts' in src/parse"):
        board.refuse_twin(tx.db, "new", ["src/parse/cast.rs"], b)
    with pytest.raises(Refused, match=f"{change} of agent-09/1 works on T2 'emit' in src/emit"):
        board.refuse_twin(tx.db, "new", ["src"], a)
    board.refuse_twin(tx.db, "new", ["src/lex", "docs"], b)
    assert render_tasks(tx.db, Show.READY, NOW).splitlines()[-1] == "held: T1 agent-01 (src/parse)"
    board.claim(tx, emit if emit in ids(tx) else planned(tx, "third"), b)
    assert render_tasks(tx.db, Show.READY, NOW).splitlines()[-1] == "held: T1 agent-01 (src/parse), T3 agent-02"
    for number in range(50):
        planned(tx, f"more {number}")
    lines = render_tasks(tx.db, Show.READY, NOW, limit=100).splitlines()
    assert len(lines) == LINES and lines[-1].startswith("held: ")
    assert "held: " not in render_tasks(tx.db, Show.STUCK, NOW)


def test_a_release_that_waits_for_a_task_comes_after_it_and_is_nobodys_failure(tx: Tx) -> None:
    a = session(tx, "agent-01/1")
    first = planned(tx, "first")
    second = planned(tx, "second", after=(first,))
    third = planned(tx, "third")
    assert not board.wait_for(tx, a, f"waits for {second}")  # it holds nothing
    board.claim(tx, first, a)
    for said in (
        f"waits for {second}",
        f"waits for {first}",
        "waits for T99",
        f"{third} is in my way",
        "waits for T3x",
    ):
        assert not board.wait_for(tx, a, said)  # no circle, and no guess
    assert board.wait_for(tx, a, f"waits for {third}: its types")
    board.release(tx, a, "waits", gave_up=False)
    assert (get(tx, first).after, ids(tx)) == ((third,), [third])


def test_a_planner_changes_why_and_after_of_a_held_task_and_the_holder_hears_of_it(tx: Tx) -> None:
    a = session(tx, "agent-02/1")
    first, second = planned(tx, "first", "torture/a", touches=("src",)), planned(tx, "second")
    board.claim(tx, first, a)
    board.rewrite(tx, first, "", by="agent-01/1", why="the layout\n\x1b[31mmoved", after=[second])
    task = get(tx, first)
    assert (task.state, task.after, task.cases, task.by) == (TaskState.CLAIMED, (second,), ("torture/a",), "agent-01/1")
    (told,) = tx.db.execute("SELECT session, text FROM message").fetchall()
    words = f"[run] agent-01 changed {first}, which you hold: it comes after {second}; why: > the layout [31mmoved"
    assert tuple(told) == (a, words)
    board.order(tx, [first], "agent-01/1")
    board.rewrite(tx, first, "", by="agent-01/1")  # nothing is said of nothing
    with pytest.raises(Refused, match=f"{a} works on {first}"):
        board.rewrite(tx, first, "", by="agent-01/1", cases=["torture/b"])
    with pytest.raises(Refused, match=f"{a} works on {first}"):
        board.rewrite(tx, first, "", by="agent-01/1", touches=[])
    with pytest.raises(Refused, match=f"{a} works on {first}"):
        board.rewrite(tx, first, "other", by="agent-01/1")
    assert len(tx.db.execute("SELECT 1 FROM message").fetchall()) == 1
