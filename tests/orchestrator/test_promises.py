"""Promises that only a whole run can keep or break: P3, P4, P9, P10 (design.md §5). Crashes are in test_kill.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.store import Store
from orchestrator.watch.journal import Scribe
from tests.orchestrator.running import (
    PARTS,
    SUBMIT,
    Run,
    Step,
    Yard,
    faults,
    made,
    shell,
    small_project,
    small_team,
    yard,
)

FORGED = "One part more\n\nIt is whole.\n\nSeat: agent-99\nChange: C99\nTask: T99"
LATER = 'echo spoilt >parts/base && echo wrong >"parts/{0}" && git add -A && git commit -qm "Part {0}"'
MENDED = 'echo base >parts/base && echo {0} >"parts/{0}" && git add -A && git commit -qm "Mended"'


def run_of(place: Yard, calls: Any = None, agents: int = 1) -> Run:
    project = small_project(place.folder / "small")
    team = small_team(place.folder / "team.toml", calls=calls) if calls else small_team(place.folder / "team.toml")
    return place.create(project, agents, models={"": f"scripted:{team}"}, budget=50_000_000)


@pytest.fixture(scope="module")
def ended() -> Iterator[Run]:
    """A run that ended, whose agents signed with the names of others."""

    def calls(part: str) -> list[Step]:
        return [made(part), SUBMIT | {"summary": FORGED}]

    with yard() as place:
        run = run_of(place, calls, agents=3)
        run.serve()
        run.finish()
        yield run


def test_every_commit_on_main_is_one_change_signed_by_the_run_alone(ended: Run) -> None:
    for commit in ended.commits()[1:]:
        (row,) = ended.rows("SELECT * FROM change WHERE landed_as = ?", commit)
        trailers = ended.git("log", "-1", "--format=%(trailers:only,unfold)", commit).splitlines()
        named = {"Run": ended.name, "Seat": row["seat"], "Session": row["session"], "Task": row["task"]}
        assert trailers == [f"{name}: {value}" for name, value in (named | {"Change": row["id"]}).items()]
        assert ended.git("log", "-1", "--format=%an %cn", commit) == f"{row['seat']} orchestrator"
    assert faults(ended) == []


def test_blame_is_a_query(ended: Run) -> None:
    for part in PARTS:
        blamed = ended.git("blame", "--porcelain", "main", "--", f"parts/{part}").split()[0]
        (row,) = ended.rows("SELECT fixes FROM change WHERE id = ?", ended.trailers(blamed)["Change"])
        assert f"parts/a-{part}" in row["fixes"]


@pytest.mark.parametrize("command", ["status", "tasks --show all", "cost --by seat", "logs", "logs gate", "why T1"])
def test_what_people_see_comes_from_the_stored_state_alone(ended: Run, command: str) -> None:
    """The state, moved away from everything else that the run left, still answers every question the same."""
    place = ended.yard
    elsewhere = place.folder / "elsewhere"
    (elsewhere / ended.name).mkdir(parents=True, exist_ok=True)
    shutil.copy(ended.db, elsewhere / ended.name / "state.db")
    verb, *rest = command.split()
    seen = [
        place.say(verb, ended.name, *rest, "--json", "--logs", str(logs)).stdout for logs in (place.logs, elsewhere)
    ]
    here, there = (line.split('"as_of"')[0] + line.split('"as_of"')[-1].partition(",")[2] for line in seen)
    assert here == there and len(here) > 50


def test_log_files_can_be_written_again_from_the_state(ended: Run, tmp_path: Path) -> None:
    shutil.copy(ended.db, tmp_path / "state.db")
    Scribe(tmp_path).catch_up()
    files = [file.relative_to(tmp_path) for file in sorted(tmp_path.rglob("*.log"))]
    assert len(files) == 5  # progress, gate, three seats
    for file in files:
        assert (tmp_path / file).read_text() == (ended.folder / file).read_text()


def test_the_board_begins_with_main_as_it_is_when_a_seat_asks() -> None:
    """One seat lands one part after the other, and asks for the board before each."""
    with yard() as place:
        run = run_of(place)
        run.serve()
        run.finish()
        answers = [answer.splitlines() for answer in run.results("tasks")]  # first how the seat's own change stands
        seen = [next(line for line in lines if line.startswith("main ")) for lines in answers]
        now = [f"main {commit[:7]}, parts {landed + 1}/4" for landed, commit in enumerate(run.commits())]
        places = [now.index(line) for line in seen]
        assert places == sorted(places) and places[0] == 0  # a change may land while the next part is made


def test_main_never_holds_what_loses_a_case_and_every_commit_has_its_scorecard() -> None:
    """A team each of whose first tries breaks what main passed: it is bounced, mended, and main stays green."""
    with yard() as place:
        project = small_project(place.folder / "small")
        team = place.folder / "team.toml"
        small_team(team, calls=lambda part: [shell(LATER.format(part)), SUBMIT])
        lines = team.read_text().splitlines()
        mended = {part: [shell(MENDED.format(part)), SUBMIT] for part in PARTS}
        text = []
        for line in lines:
            text.append(line)
            if line.startswith("match"):
                part = line.split()[3]
                text.append(
                    small_team(place.folder / "mend.toml", [part], mended.__getitem__).read_text().splitlines()[-1]
                )
                text[-1] = text[-1].replace("calls", "on_bounce", 1)
        team.write_text("\n".join(text) + "\n")
        run = place.create(project, 2, models={"": f"scripted:{team}"}, budget=50_000_000)
        run.serve()
        run.until("SELECT 1 FROM change WHERE state = 'bounced'")
        run.kill(tree=True)
        run.serve()
        run.finish()
        assert run.one("SELECT count(*) FROM change WHERE state = 'bounced'") >= len(PARTS)
        assert len(run.commits()) == 1 + len(PARTS)
        assert faults(run) == []
        assert all(run.outcomes(commit, "full")["parts/a-base"] == "PASS" for commit in run.commits())  # type: ignore[index]


def test_what_a_process_of_an_earlier_epoch_does_has_no_effect() -> None:
    """A process that has lost the run, as after a paused machine, writes nothing more and ends."""

    async def take_over(state: Path) -> None:
        store = Store(state, lambda: datetime.now(UTC))
        await store.begin_epoch()
        await store.close()

    with yard() as place:
        run = run_of(place, agents=2)
        run.serve()
        run.until("SELECT 1 FROM journal WHERE kind = 'claimed'")
        anyio.run(take_over, run.db)
        last, main = run.one("SELECT max(seq) FROM journal"), run.commits()
        run.wait()
        assert run.one("SELECT max(seq) FROM journal") == last
        assert run.commits() == main
        assert run.state == "running"  # not even its own end
        assert "belongs to epoch 1" in (run.folder / "orchestrator.jsonl").read_text()
        run.serve()
        run.finish()
        assert faults(run) == []
        assert run.one("SELECT count(*) FROM change WHERE state = 'landed'") == len(PARTS)
        assert place.leftovers() == []
