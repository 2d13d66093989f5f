"""The scribe's files and the words they are made of."""

from __future__ import annotations

import csv
from pathlib import Path
from string import Formatter

import pytest

from orchestrator.records import ChangeState
from orchestrator.store import reading
from orchestrator.store.store import KINDS, iso
from orchestrator.watch.journal import WORDS, Scribe, entries
from orchestrator.watch.queries import frame, status
from orchestrator.watch.render import plain, visible
from tests.orchestrator.made_run import BEGAN, make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def files(folder: Path) -> dict[str, str]:
    found = [*folder.glob("*.log"), *folder.glob("agents/*.log"), folder / "cost.csv"]
    return {str(file.relative_to(folder)): file.read_text() for file in found}


@pytest.mark.parametrize("kind", WORDS)
def test_the_words_of_a_kind_name_nothing_that_it_has_not(kind: str) -> None:
    named = {name for template in WORDS[kind] for _, name, _, _ in Formatter().parse(template) if name}
    assert named <= {*KINDS[kind], "title", "progress"}


def test_every_entry_of_a_run_becomes_one_line(folder: Path) -> None:
    with reading(folder / "state.db") as db:
        lines = entries(db)
    assert all("\n" not in line.text and "{" not in line.text for line in lines)
    assert all(line.word and line.text for line in lines)


def test_the_scribe_writes_what_people_follow(folder: Path) -> None:
    Scribe(folder).catch_up()
    written = files(folder)
    assert written.keys() == {"progress.log", "gate.log", "cost.csv", *(f"agents/agent-0{n}.log" for n in range(1, 5))}
    assert "2026-03-14 09:11:00Z  landed    agent-02  C1 cases of kind 1" in written["progress.log"]
    assert "shell     cargo test\\x1b[31m" in written["agents/agent-02.log"]
    assert "\x1b" not in "".join(written.values())
    rows = list(csv.DictReader(written["cost.csv"].splitlines()))
    assert len(rows) == 13  # the request still in flight is not written yet
    assert [row["usd"] for row in rows if row["state"] == "in-doubt"] == ["0.410000"]


def test_files_can_be_made_again_from_the_state(folder: Path) -> None:
    Scribe(folder).catch_up()
    before = files(folder)
    (folder / "gate.log").unlink()
    (folder / "agents" / "agent-03.log").write_text("cut")
    Scribe(folder).catch_up()
    assert files(folder) == before
    Scribe(folder).catch_up()
    assert files(folder) == before


def test_what_a_crash_left_in_half_is_written_once(folder: Path) -> None:
    Scribe(folder).catch_up()
    before = files(folder)
    with (folder / "progress.log").open("a") as log:
        log.write("half a li")
    Scribe(folder).catch_up()
    assert files(folder) == before


def test_a_follower_of_a_log_keeps_its_file(folder: Path) -> None:
    Scribe(folder).catch_up()
    with (folder / "progress.log").open() as log:
        whole = log.read()
        Scribe(folder).catch_up()
        assert log.read() == ""
        (folder / "progress.log").write_text("cut")
        Scribe(folder).catch_up()
        log.seek(0)
        assert log.read() == whole


def test_progress_of_the_last_hour_is_measured_from_the_runs_own_end(folder: Path) -> None:
    with reading(folder / "state.db") as db:
        begin = frame(db, False, BEGAN)
        result = status(db, begin)
    assert begin["as_of"].startswith("2026-03-14T11:00:00")
    assert result["suites"]["torture"]["delta_1h"] == 18
    assert result["queue"]["landed"] == 10
    assert result["elapsed_s"] == 7200


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eabc\u200b", "\\u202eabc\\u200b"),
        ("\x9b31m", "\\x9b31m"),
        ("größer → 3", "größer → 3"),
    ],
)
def test_what_would_act_on_a_terminal_is_spelled_out(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_what_is_too_long_is_cut() -> None:
    assert visible("x" * 500, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(("micro", "text"), [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (-20_000, "-0.02")])
def test_money_loses_nothing_on_its_way_into_json(micro: int, text: str) -> None:
    assert plain({"spent_usd": micro}) == {"spent_usd": text}


def test_times_and_states_become_plain_text() -> None:
    assert plain({"at": iso(BEGAN), "state": ChangeState.LANDED}) == {"at": "2026-03-14T09:00:00Z", "state": "landed"}
