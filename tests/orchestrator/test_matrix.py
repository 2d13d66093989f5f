"""What is stored of main's scorecards reads back whole, and the matrix of cases and commits says what they say, in
whatever order they came."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import board
from orchestrator.control import Refusal
from orchestrator.records import Change, ChangeState, TaskSource
from orchestrator.store import Tx, changes, matrix, reading, rows
from orchestrator.store import cards as store_cards
from orchestrator.store.store import connect, iso, migrate
from orchestrator.watch import cases
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW = datetime(2026, 3, 14, tzinfo=UTC)
NAMES = [f"{suite}/{n}" for suite in ("torture", "unit") for n in range(4)]
MAINS = 7
GOLDEN = Path(__file__).parent.parent / "golden"

verdicts = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.TIMEOUT]), st.sampled_from(["", "exit 1", "exit 2"])
    ),
    max_size=len(NAMES),
)
cards = st.lists(
    st.tuples(st.integers(0, MAINS - 1), st.sampled_from(["full", "full", "cases", "heldout"]), verdicts), max_size=12
)
Turn = tuple[int, int | None, str, str]  # at which ordinal, the judged one before it, to what, why
Known = dict[str, dict[int, tuple[str, str]]]  # by case and ordinal: outcome and reason


def opened(path: Path | str = ":memory:") -> Tx:
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    db.execute("INSERT INTO run (one, name, epoch, state, created, settings) VALUES (1, 'r', 1, 'running', '', '{}')")
    return Tx(db, 1, NOW)


def card(tier: str, seen: dict[str, tuple[Outcome, str]], tree: str = "t") -> Scorecard:
    found = {
        case: Verdict(case, outcome, 0.0, "" if outcome is Outcome.PASS else why)
        for case, (outcome, why) in seen.items()
    }
    return Scorecard(tree, tier, Build(True, 1.0), found)


def land(tx: Tx, number: int, scorecard: int) -> None:
    whose = (
        f"C{number}",
        "agent-01/1",
        "agent-01",
        "T1",
        ChangeState.JUDGING,
        NOW,
        commit(number - 1),
        "s",
        "t",
        f"x{number}",
    )
    rows.insert(tx, Change(*whose, summary=f"Step {number}\n\nMore."), number=number)
    changes.intend(tx, f"C{number}", commit(number - 1), commit(number), scorecard)
    tx.run("UPDATE landing SET done = 1 WHERE number = ?", number)
    matrix.record(tx)


def commit(number: int) -> str:
    return f"m{number}"


def naive(given: Sequence[tuple[int, str, dict[str, tuple[Outcome, str]]]]) -> Known:
    """The matrix as a dictionary that is filled in the order of arrival."""
    shown = [(at, tier, seen) for at, tier, seen in given if tier != "heldout"]
    every = {case for _, _, seen in shown for case in seen}
    known: Known = {case: {} for case in every}
    for at, tier, seen in shown:
        suites = {case.split("/")[0] for case in seen}
        for case in every:
            if case in seen:
                outcome, why = seen[case]
                known[case][at] = (outcome.value, "" if outcome is Outcome.PASS else why)
            elif tier == "full" and case.split("/")[0] in suites:
                known[case][at] = ("-", "")
    return known


def turns(known: dict[int, tuple[str, str]]) -> list[Turn]:
    """Where a case turned: at which ordinal, the judged one before it, and to what."""
    before, last, found = "-", None, list[Turn]()
    for at in sorted(known):
        outcome, reason = known[at]
        if outcome != before:
            found.append((at, last, outcome, reason))
        before, last = outcome, at
    return found


def read(db: sqlite3.Connection, case: str) -> list[Turn]:
    return [(t["ordinal"], t["since"], Outcome[t["outcome"].upper()].value, t["line"]) for t in cases.turns(db, case)]


@settings(max_examples=300, deadline=None)
@given(cards, st.booleans())
def test_cards_in_any_order_make_the_matrix_of_a_plain_dictionary(
    given: list[tuple[int, str, dict[str, tuple[Outcome, str]]]], landed_first: bool
) -> None:
    tx = opened()
    seed = changes.add_scorecard(tx, card("full", {}), commit=commit(0))
    if landed_first:
        for number in range(1, MAINS):
            land(tx, number, seed)
    stored = [(at, tier, seen) for at, tier, seen in given]
    for at, tier, seen in stored:
        changes.add_scorecard(tx, card(tier, seen), commit=commit(at))
    if not landed_first:
        for number in range(1, MAINS):
            land(tx, number, seed)
    order = stored if landed_first else [one for at in range(MAINS) for one in stored if one[0] == at]
    known = naive(order)
    assert {case: read(tx.db, case) for case in known} == {case: turns(found) for case, found in known.items()}
    tx.db.close()


def moved(before: dict[str, Verdict], by: dict[str, Verdict | None]) -> dict[str, Verdict]:
    after: dict[str, Verdict | None] = {**before, **by}
    return {case: after_it for case, after_it in sorted(after.items()) if after_it}


MANY = [f"torture/{n:02d}" for n in range(30)]
told = st.builds(
    lambda outcome, ms, reason, value: (outcome, ms / 1000, reason, value, "ms" if value is not None else ""),
    st.sampled_from(Outcome),
    st.integers(0, 90_000),
    st.text(max_size=9),
    st.none() | st.floats(allow_nan=False),
)
moves = st.lists(st.dictionaries(st.sampled_from(MANY), st.none() | told, max_size=3), max_size=12)


@settings(max_examples=100, deadline=None)
@given(moves, st.integers(0, 3))
def test_every_scorecard_reads_back_as_it_was_stored(
    steps: list[dict[str, tuple[Outcome, float, str, float | None, str] | None]], links: int
) -> None:
    tx, stored, seen = opened(), list[Scorecard](), {case: Verdict(case, Outcome.PASS) for case in MANY}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_cards, "LINKS", links)
        for number, step in enumerate(steps):
            seen = moved(seen, {case: Verdict(case, *facts) if facts else None for case, facts in step.items()})
            stored.append(Scorecard(f"t{number}", "full", Build(number % 2 == 0, 0.5, "why", "log"), seen))
            id = changes.add_scorecard(tx, stored[-1], commit=commit(number))
            if number:
                land(tx, number, id)
        read_back = [changes.scorecard_of(tx.db, commit(number)) for number in range(len(stored))]
    assert read_back == [only_kept(one) for one in stored]
    tx.db.close()


def only_kept(one: Scorecard) -> Scorecard:
    """A case that passed without a value has neither seconds nor a reason in the state."""
    plain = {case: Verdict(case, Outcome.PASS) for case, v in one.verdicts.items() if v.outcome is Outcome.PASS}
    measured = {case for case, v in one.verdicts.items() if v.value is not None}
    return replace(
        one, verdicts={case: v if case in measured else plain.get(case, v) for case, v in one.verdicts.items()}
    )


def test_a_card_costs_what_differs_from_main_not_what_there_is() -> None:
    tx, names = opened(), [f"torture/{n:05d}" for n in range(5000)]
    seen = {case: (Outcome.FAIL, f"exit {hash(case)}") for case in names}
    sizes = []
    for number in range(20):
        seen[names[number]] = (Outcome.PASS, "")
        id = changes.add_scorecard(tx, card("full", seen), commit=commit(number))
        if number:
            land(tx, number, id)
        sizes.append(tx.db.execute("SELECT sum(length(body)) FROM payload").fetchone()[0])
    whole, rest = sizes[1] - sizes[0], sizes[-1] - sizes[1]
    assert rest < whole


P, F = (Outcome.PASS, ""), (Outcome.FAIL, "exit 1")


def batch() -> Tx:
    """A seed, then C1, then C2, C3 and C4 at once: only C4's commit was judged, and it fails what passed."""
    tx = opened()
    changes.add_scorecard(tx, card("full", {"torture/1": F, "torture/2": P}), commit=commit(0))
    land(tx, 1, changes.add_scorecard(tx, card("full", {"torture/1": P, "torture/2": P}), commit=commit(1)))
    judged = changes.add_scorecard(tx, card("full", {"torture/1": F, "torture/2": P}), commit=commit(4))
    for number in (2, 3, 4):
        land(tx, number, judged)
    return tx


def test_a_break_inside_a_batch_names_all_who_can_have_done_it_until_a_probe_names_one() -> None:
    tx = batch()
    broken = cases.blame(tx.db, "torture/1")["history"][-1]
    assert (broken["change"], broken["among"], broken["commit"]) == (None, ["C2", "C3", "C4"], commit(4))
    assert "broken by     one of C2 … C4, judged together  exit 1" in cases.blame_words(cases.blame(tx.db, "torture/1"))
    changes.add_scorecard(tx, card("cases", {"torture/1": P}), commit=commit(2))
    changes.add_scorecard(tx, card("cases", {"torture/1": (Outcome.TIMEOUT, "10 s")}), commit=commit(3))
    history = cases.blame(tx.db, "torture/1")["history"]
    assert [(one["outcome"], one["change"]) for one in history[1:]] == [
        ("pass", "C1"),
        ("timeout", "C3"),
        ("fail", "C4"),
    ]
    assert cases.turns(tx.db, "torture/2")[0]["ordinal"] == 0 and len(cases.turns(tx.db, "torture/2")) == 1


def test_a_regression_tells_who_broke_and_who_mended_it_and_which_task_is_open() -> None:
    tx = batch()
    board.put(tx, "again", TaskSource.CASES, by="run", cases=("torture/*",))
    (open_one,) = cases.regressions(tx.db)["rows"]
    assert (open_one["case"], open_one["among"], open_one["mended"]) == ("torture/1", ["C2", "C3", "C4"], None)
    assert open_one["task"] == "T1" and "T1" in cases.regressions_words(cases.regressions(tx.db))
    land(tx, 5, changes.add_scorecard(tx, card("full", {"torture/1": P, "torture/2": P}), commit=commit(5)))
    (mended,) = cases.regressions(tx.db)["rows"]
    assert (mended["mended"]["change"], mended["mended"]["session"], mended["task"]) == ("C5", "agent-01/1", None)
    assert "C5 agent-01/1" in cases.regressions_words(cases.regressions(tx.db))


def test_a_suite_judged_after_landing_says_when_it_was_found() -> None:
    tx = batch()
    later = Tx(tx.db, 1, NOW + timedelta(hours=3))
    changes.add_scorecard(later, card("full", {"slow/1": F}), commit=commit(4))
    changes.add_scorecard(later, card("full", {"slow/1": P}), commit=commit(3))
    answer = cases.blame(tx.db, "slow/1")
    assert [(one["outcome"], one["change"]) for one in answer["history"]] == [("pass", None), ("fail", "C4")]
    assert answer["history"][1]["found"] == iso(
        later.now
    ) and "found         judged on main after" in cases.blame_words(answer)


def test_a_test_that_vanished_is_missing_by_the_change_that_took_it_away() -> None:
    tx = batch()
    land(tx, 5, changes.add_scorecard(tx, card("full", {"torture/1": P}), commit=commit(5)))
    answer = cases.blame(tx.db, "torture/2")
    assert (answer["now"], answer["history"][-1]["change"]) == ("missing", "C5")


def test_main_that_was_not_judged_since_is_said_to_be_so() -> None:
    tx = batch()
    land(tx, 5, 1)
    assert cases.blame(tx.db, "torture/2")["unjudged"] == 1
    assert cases.blame_words(cases.blame(tx.db, "torture/2")).startswith("torture/2 passes on main m4, 1 landing ago")


def test_a_card_counts_from_the_moment_its_commit_is_main() -> None:
    tx = opened()
    changes.add_scorecard(tx, card("full", {"torture/1": F}), commit=commit(0))
    judged = changes.add_scorecard(tx, card("full", {"torture/1": P}), commit=commit(1))
    assert cases.blame(tx.db, "torture/1")["now"] == "fail"
    land(tx, 1, judged)
    assert cases.blame(tx.db, "torture/1")["now"] == "pass"


@pytest.mark.parametrize("tier", ["heldout", "anything"])
def test_held_out_cards_and_cards_of_no_known_tier_never_enter_the_matrix(tier: str) -> None:
    tx = batch()
    before = [tx.db.execute(f"SELECT * FROM {table}").fetchall() for table in ("shown_case", "judged", "cell")]
    changes.add_scorecard(tx, card(tier, {"torture/1": P, "torture/held-1": F}), commit=commit(4))
    assert before == [tx.db.execute(f"SELECT * FROM {table}").fetchall() for table in ("shown_case", "judged", "cell")]
    with pytest.raises(Refusal, match=r"no case 'torture/held-1'; did you mean torture/"):
        cases.blame(tx.db, "torture/held-1")


@pytest.mark.parametrize("migrated", [False, True])
def test_a_state_of_an_earlier_version_is_read_without_being_written_and_recorded_by_its_next_landing(
    tmp_path: Path, migrated: bool
) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript((GOLDEN / "state-v1.sql").read_text())
        old.execute("UPDATE landing SET done = 1")
        old.commit()
        if migrated:
            migrate(old)
    for _ in range(2):
        with reading(path) as db:
            answer = cases.blame(db, "torture/c")
            assert (answer["now"], answer["line"], answer["task"]) == ("fail", "exit 134", "T3")
            assert [row["case"] for row in cases.cases(db)["rows"]] == ["torture/a", "torture/c"]
    with closing(connect(path, write=True)) as db:
        changes.add_scorecard(Tx(db, 1, NOW), card("full", {"torture/c": P}), commit="elsewhere")
        assert db.execute("SELECT count(*) FROM cell").fetchone()[0] == 2


def test_no_name_or_reason_of_a_case_steers_a_terminal() -> None:
    tx = opened()
    changes.add_scorecard(tx, card("full", {"unit/\x1b[2J": (Outcome.FAIL, "\x1b]0;owned\x07")}), commit=commit(0))
    for words in (cases.cases_words(cases.cases(tx.db)), cases.blame_words(cases.blame(tx.db, "unit/\x1b[2J"))):
        assert "\\x1b" in words and not {"\x1b", "\x07"} & set(words)
