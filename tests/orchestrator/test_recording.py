"""A run can be recorded, and the recording replayed to the same commits (docs/operators.md, "Recordings")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.workspace import Sight, seen
from sandbox.room import Command, Result
from tests.orchestrator.running import SUBMIT, Run, Step, Yard, faults, made, shell, small_project, small_team, yard

VERIFY: Step = {"tool": "verify", "what": "task"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("said", [b"", b"no\n", b"%s %s x\n" % (b"a" * 40, b"b" * 40), b"a" * 40 + b" "])
async def test_what_a_room_says_of_its_workspace_is_believed_in_its_form_alone(said: bytes) -> None:
    async def answering(text: bytes) -> Sight:
        async def run(command: Command) -> Result:
            return Result(0, text, b"", 0.1)

        return await seen(run)

    assert await answering(said) == Sight()
    assert await answering(b"%s %s \n" % (b"a" * 40, b"b" * 40)) == Sight("a" * 40, "b" * 40)


@pytest.fixture
def place() -> Iterator[Yard]:
    with yard() as made_yard:
        yield made_yard


def test_what_each_call_came_to_is_kept_for_a_recording(place: Yard) -> None:
    steps = {
        "looks": (shell("git status; ls"), "ok"),
        "fails": (shell("exit 3"), "exit 3"),
        "late": (shell("echo late >parts/late; sleep 9", timeout_s=1), "timeout"),
        "writes": (shell("rm parts/late; echo blue >parts/blue"), "ok"),
        "edits": ({"tool": "edit", "path": "parts/blue", "old": "red", "new": "x"}, "refused"),
        "commits": (shell("git add -A && git commit -qm blue"), "ok"),
        "views": ({"tool": "view", "path": "parts/blue"}, "ok"),
        "strange": ({"tool": "shell"}, "refused"),
    }
    calls = {
        "blue": [*(step for step, _ in steps.values()), SUBMIT],
        "red": [shell("git pull -q"), made("red"), SUBMIT],
    }
    team = small_team(place.folder / "team.toml", [*calls], calls.__getitem__)
    run = place.create(small_project(place.folder / "small", [*calls]), 1, models={"": f"scripted:{team}"})
    run.serve()
    run.finish()
    rows = [dict(row) for row in run.rows("SELECT * FROM call ORDER BY session, turn")]
    first, second = ([row for row in rows if row["session"] == f"agent-01/{n}"] for n in (1, 2))
    seen = dict(zip(steps, [row for row in first if row["name"] not in ("tasks", "claim", "submit")], strict=True))
    assert {name: row["kind"] for name, row in seen.items()} == {name: kind for name, (_, kind) in steps.items()}
    tree = {name: run.git("rev-parse", f"{row['tree']}^{{tree}}") for name, row in seen.items() if name == "late"}
    assert "late" in run.git("ls-tree", "--name-only", f"{tree['late']}:parts")  # cut short: its files are kept
    assert seen["looks"]["stamp"] == seen["fails"]["stamp"] != seen["late"]["stamp"] != seen["writes"]["stamp"]
    assert seen["writes"]["stamp"] == seen["edits"]["stamp"] != seen["commits"]["stamp"]
    landed = run.one("SELECT tree FROM change WHERE id = 'C1'")
    assert seen["writes"]["tree"] == seen["commits"]["tree"] == landed
    assert seen["views"]["stamp"] == seen["strange"]["stamp"] == "" and seen["strange"]["began"] is None
    assert {row["main"] for row in first} == {0, None} and {row["main"] for row in second} == {1}
    places = [(row["began"], row["ended"]) for row in rows if row["began"]]
    assert places == sorted(places) and all(began < ended for began, ended in places)


def recorded(place: Yard, name: str = "first", agents: int = 3) -> tuple[Path, Run]:
    """A project, and a run of it whose recording it holds: two scripted sessions write at once, pull, lose and win."""
    parts = ("blue", "green", "red", "white")
    project = small_project(place.folder / "small", parts)
    script = "#!/bin/sh\necho $1 >parts/$1\n"

    def calls(part: str) -> list[Step]:
        look = [shell("ls parts; sleep 0.3"), {"tool": "view", "path": "parts/base"}]
        if part == "green":  # breaks the base at first, with a script that a short replay would not have
            wrong = [
                shell(f"printf '{script}' >/tmp/$$.sh; mv /tmp/*.sh /tmp/make"),
                shell("cd parts; rm base; cd ..; T=/tmp; sh $T/make green"),
            ]
            return [
                *look,
                *wrong,
                SUBMIT,
                shell("git checkout -q HEAD -- parts/base"),
                {"tool": "verify", "what": "task"},
                SUBMIT,
            ]
        return [
            *look,
            shell("git pull -q"),
            {"tool": "note", "topic": "parts", "text": part},
            made(part),
            VERIFY,
            SUBMIT,
        ]

    team = small_team(place.folder / "team.toml", parts, calls)
    run = place.create(project, agents, name=name, models={"": f"scripted:{team}"}, budget=90_000_000)
    run.serve()
    run.finish()
    done = place.say("record", name, str(project / "recording"))
    assert done.returncode == 0, done.stderr
    return project, run


def diverged(run: Run) -> list[str]:
    return [row[0] for row in run.rows("SELECT data FROM journal WHERE kind = 'diverged' ORDER BY seq")]


def test_a_recording_is_replayed_to_the_same_commits_by_teams_of_other_sizes_and_recorded_again(place: Yard) -> None:
    project, run = recorded(place)
    shipped = (project / "recording/recording.jsonl.xz").read_bytes()
    for agents in (1, 5):
        again = place.create(project, agents, name=f"again-{agents}", models={"": "recorded"})
        again.serve()
        again.finish()
        assert again.one("SELECT reason FROM run").startswith("recording finished"), again.tail()
        assert diverged(again) == [], again.tail()
        assert again.commits() == run.commits()
        assert again.judged() == run.judged()
        assert place.say("record", again.name, str(place.folder / again.name)).returncode == 0
        assert (place.folder / again.name / "recording.jsonl.xz").read_bytes() == shipped
        assert faults(again) == []
    assert place.leftovers() == []
