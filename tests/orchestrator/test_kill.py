"""Killed at any moment and resumed, a run ends as an undisturbed one does (P1 to P4, P11; design.md §6)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.session import INTERRUPTED
from benchmarks.kill_resume import compare
from sandbox.engines import choose
from sandbox.keep import state_home
from sandbox.room import EngineUnavailable
from tests.orchestrator.dying import POINTS
from tests.orchestrator.running import PARTS, SUBMIT, Run, Yard, faults, made, shell, small_project, small_team, yard
from tests.wire.server import serve

CLAUDE = "anthropic/claude-sonnet-4-5"


def answers(engine: str) -> bool:
    try:
        choose(engine, state_home())
    except EngineUnavailable:
        return False
    return True


@pytest.fixture
def place() -> Iterator[Yard]:
    with yard() as made_yard:
        yield made_yard


def small_run(place: Yard, team: str, agents: int = 1) -> Run:
    project = small_project(place.folder / "small")
    return place.create(project, agents, models={"": team}, budget=50_000_000)


def test_a_run_killed_at_random_moments_ends_with_the_same_tree_and_scorecard_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    project, team = small_project(tmp_path / "small"), small_team(tmp_path / "team.toml")
    _, trials = compare(2, seed=7, project=project, team=team, agents=2, sandbox="bubblewrap")
    assert [trial.wrong for trial in trials] == [()] * 2


def test_a_crash_between_any_two_writes_of_the_main_path_is_recovered(place: Yard) -> None:
    """One run dies at each named point in turn, each time in a new process; then it is left to finish."""
    run = small_run(place, f"scripted:{small_team(place.folder / 'team.toml')}")
    for point in POINTS:
        run.serve(dying=point)
        run.died()
    run.serve()
    run.finish()
    assert faults(run) == []
    assert run.one("SELECT count(*) FROM change") == len(PARTS)  # a submission in flight is judged, not made again
    assert run.one("SELECT count(DISTINCT task) FROM change WHERE state = 'landed'") == len(PARTS)
    assert set(run.judged().values()) == {"PASS"}
    assert place.leftovers() == []


@pytest.mark.parametrize("sandbox", ["bubblewrap", "docker"])
def test_a_job_goes_on_without_the_run_and_a_command_in_front_is_told_as_interrupted(sandbox: str) -> None:
    if not answers(sandbox):
        pytest.skip(f"{sandbox} does not work on this machine")
    job = shell("echo begun >>/tmp/job; sleep 6; echo over >>/tmp/job", background=True)
    hasty = shell("echo begun >>/tmp/hasty; sleep 100")
    calls = [job, hasty, {"tool": "wait", "job": 2}, shell("cat /tmp/job; echo; cat /tmp/hasty"), made("red"), SUBMIT]
    with yard(sandbox) as place:
        run = small_run(place, f"scripted:{small_team(place.folder / 'team.toml', ['red'], lambda _: calls)}")
        run.serve()
        run.until("SELECT 1 FROM call WHERE name = 'shell' AND state = 'running' AND arguments LIKE '%hasty%'")
        run.kill()
        run.resume()
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        told, seen = run.results("shell")[1:3]
        assert told == INTERRUPTED
        assert "begun\nover\n" in seen and seen.count("begun") <= 2  # neither was started a second time
        assert run.results("wait")[0].startswith("job 2: exit 0")
        assert run.one("SELECT count(*) FROM journal WHERE kind = 'room-lost'") == 0


def test_a_stored_reply_is_never_asked_for_again(tmp_path: Path) -> None:
    with serve(small_team(tmp_path / "team.toml", cents=None)) as wire, yard(**wire.env()) as place:
        run = small_run(place, CLAUDE)
        for point in ("after a reply is stored", "before a reply is stored", "after a call has begun"):
            run.serve(dying=point)
            run.died()
        run.serve()
        run.finish()
        bodies = [json.dumps(body) for body in wire.vendor.requests]
        assert len(bodies) == len(set(bodies)) == run.one("SELECT sum(turns) FROM session")
        assert run.one("SELECT count(*) FROM attempt WHERE state <> 'settled'") == 0


def test_a_request_in_flight_is_repeated_once_and_counts_as_spent(tmp_path: Path) -> None:
    with serve(small_team(tmp_path / "team.toml", cents=None)) as wire, yard(**wire.env()) as place:
        run = small_run(place, CLAUDE)
        run.serve(dying="after a vendor has answered")
        run.died()
        run.serve()
        run.finish()
        assert len(wire.vendor.requests) == run.one("SELECT sum(turns) FROM session") + 1
        assert run.one("SELECT count(*) FROM attempt WHERE state = 'in-doubt' AND reserved > 0") == 1


def test_a_run_goes_on_with_what_was_frozen_though_its_project_was_edited(place: Yard) -> None:
    team = small_team(place.folder / "team.toml")
    run = small_run(place, f"scripted:{team}")
    lock = (run.folder / "lock.json").read_bytes()
    run.serve()
    run.until("SELECT 1 FROM journal WHERE kind = 'claimed'")
    run.kill()
    project = place.folder / "small"
    (project / "suites/has.sh").write_text("#!/bin/sh\nexit 0\n")
    (project / "goal.md").write_text("# Do nothing\n")
    (project / "project.toml").write_text("schema = 1\n")
    shutil.rmtree(project / "suites/parts")
    team.write_text('[[session]]\nmatch = "*"\ncalls = [{ tool = "release", reason = "no" }]\n')
    run.resume()
    run.finish()
    assert (run.folder / "lock.json").read_bytes() == lock
    assert run.judged() == {f"parts/a-{part}": "PASS" for part in ("base", *PARTS)}
    assert {line.split("/")[-1] for line in run.git("ls-tree", "--name-only", "main", "parts/").splitlines()} == {
        "base",
        *PARTS,
    }
    assert faults(run) == []


def test_an_image_that_is_not_the_one_the_run_began_with_is_written_down(place: Yard) -> None:
    run = small_run(place, f"scripted:{small_team(place.folder / 'team.toml')}")
    lock = json.loads((run.folder / "lock.json").read_text())
    now, lock["digests"]["image"] = lock["digests"]["image"], "0" * 64  # as if mirrors had moved and it was built again
    (run.folder / "lock.json").write_text(json.dumps(lock))
    run.serve()
    run.finish()
    changed = json.loads(run.one("SELECT data FROM journal WHERE kind = 'condition-changed'"))
    assert changed == {"what": "image", "old": "0" * 64, "new": now, "by": "run"}


def test_a_run_whose_frozen_copy_was_edited_does_not_go_on(place: Yard) -> None:
    run = small_run(place, f"scripted:{small_team(place.folder / 'team.toml')}")
    (run.folder / "frozen/project/suites/has.sh").write_text("#!/bin/sh\nexit 0\n")
    said = place.say("resume", run.name)
    assert said.returncode == 6
    assert "verifiers" in said.stderr
    assert run.one("SELECT count(*) FROM journal") == 0


def test_a_stopped_run_leaves_nothing_behind_and_goes_on_in_the_workspaces_it_had(place: Yard) -> None:
    begun, done = shell("echo red >parts/red; sleep 2"), shell("cat parts/red && git add -A && git commit -qm red")
    team = small_team(place.folder / "team.toml", ["red"], lambda _: [begun, shell("sleep 1"), done, SUBMIT])
    run = small_run(place, f"scripted:{team}")
    run.serve()
    run.until("SELECT 1 FROM call WHERE name = 'shell' AND state = 'running'")
    assert place.say("stop", run.name, "--now").returncode == 0
    assert run.wait() == "stopped"
    assert place.leftovers() == []
    run.resume()
    run.until("SELECT 1 FROM change WHERE state = 'landed'")
    assert "red" in run.results("shell")[2]
    assert run.one("SELECT count(DISTINCT session) FROM call WHERE name = 'shell'") == 1
