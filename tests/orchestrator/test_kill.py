"""Killed at any moment and resumed, a run ends as an undisturbed one does (P1, P2, P3; design.md §6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill_resume import compare
from tests.orchestrator.dying import POINTS
from tests.orchestrator.running import PARTS, SUBMIT, Run, Yard, faults, made, shell, small_project, small_team, yard


@pytest.fixture
def place() -> Iterator[Yard]:
    with yard() as made_yard:
        yield made_yard


def small_run(place: Yard, team: Path, agents: int = 1) -> Run:
    project = small_project(place.folder / "small")
    return place.create(project, agents, models={"": f"scripted:{team}"}, budget=50_000_000)


def test_a_run_killed_at_random_moments_ends_with_the_same_tree_and_scorecard_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    project, team = small_project(tmp_path / "small"), small_team(tmp_path / "team.toml")
    _, trials = compare(4, seed=7, project=project, team=team, agents=2, sandbox="bubblewrap")
    assert [trial.wrong for trial in trials] == [()] * 4


def test_a_crash_between_any_two_writes_of_the_main_path_is_recovered(place: Yard) -> None:
    """One run dies at each named point in turn, each time in a new process; then it is left to finish."""
    run = small_run(place, small_team(place.folder / "team.toml", parts=PARTS))
    for point in POINTS:
        run.serve(dying=point)
        run.died()
    run.serve()
    run.finish()
    assert faults(run) == []
    assert run.one("SELECT count(*) FROM change WHERE state = 'landed'") == len(PARTS)
    assert run.one("SELECT count(DISTINCT task) FROM change") == len(PARTS)  # nobody solved a task twice
    assert set(run.judged().values()) == {"PASS"}
    assert place.leftovers() == []
