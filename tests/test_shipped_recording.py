"""The recording that `make demo` plays: whose it is, what is in it, and that it begins as it was recorded.

The whole of it is replayed by `python -m benchmarks.demo`, which takes longer than all tests together.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import anyio
import pytest

from benchmarks import demo
from orchestrator.project.folder import load
from orchestrator.project.furnishing import furnish
from orchestrator.project.lock import read_lock
from orchestrator.recording import FILE, Recording, judged_by
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.keep import state_home
from tests.orchestrator.running import isolates, yard

SOURCE = demo.PROJECT / FILE
QUOTED = 3  # lines in a row


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.read(SOURCE)


@pytest.fixture(scope="module")
def case_sources() -> Path:
    home = state_home()
    furnished = anyio.run(furnish, load(demo.PROJECT), BubblewrapEngine(home), home, lambda *_: None)
    return furnished.sources["gcc"].folder / "gcc.c-torture/execute"


def test_it_was_made_under_the_lock_that_the_project_has(recording: Recording) -> None:
    here = judged_by(read_lock(demo.PROJECT).digests)
    assert here and {name: recording.head.digests[name] for name in here} == here


def test_it_is_small_enough_to_live_in_a_repository() -> None:
    assert SOURCE.stat().st_size < 2 * 1024 * 1024


def test_it_is_of_a_team_that_was_killed_with_a_planner_and_six_at_once(recording: Recording) -> None:
    alive, most = dict[str, str](), 0
    for step in recording.steps:
        if step.do == "start":
            alive[step.id] = step.role
        elif step.do == "end":
            alive.pop(step.id)
        seats = {session.rpartition("/")[0] for session in alive}
        most = max(most, len(seats) if "planner" in alive.values() else 0)
    assert most >= 6 and {step.open for step in recording.steps if step.do == "start"} == {True}
    assert any(step.rested or step.kind == "interrupted" for step in recording.steps)


def test_no_three_lines_of_it_are_a_cases_source(recording: Recording, case_sources: Path) -> None:
    windows = set()
    for file in filter(Path.is_file, case_sources.rglob("*")):
        lines = [" ".join(line.split()) for line in file.read_text("utf-8", "replace").splitlines()]
        lines = [line for line in lines if len(line) > 3]  # braces alone are nobody's
        windows |= {tuple(lines[place : place + QUOTED]) for place in range(len(lines) - QUOTED + 1)}
    assert len(windows) > 1000
    found = []
    for step in recording.steps:
        for text in filter(lambda value: isinstance(value, str), step.arguments.values()):
            lines = [" ".join(line.split()) for line in text.splitlines()]
            lines = [line for line in lines if len(line) > 3]
            places = range(len(lines) - QUOTED + 1)
            found += [(step.id, lines[place]) for place in places if tuple(lines[place : place + QUOTED]) in windows]
    assert found == []


@pytest.mark.skipif(not isolates(), reason="needs rooms: neither namespaces nor a Docker engine can be used here")
def test_its_first_change_lands_as_it_was_recorded(recording: Recording) -> None:
    asked = Namespace(agents=16, until=1, kills=0, seed=1, full=False)
    with yard() as place:
        replayed = demo.replayed(place, recording, asked, serial=False)
    assert replayed.wrong == [] and replayed.landed >= 1
