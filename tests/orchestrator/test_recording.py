"""A run can be recorded, and the recording replayed to the same commits (docs/operators.md, "Recordings")."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.workspace import Sight, seen
from sandbox.room import Command, Result
from tests.orchestrator.running import SUBMIT, Yard, made, shell, small_project, small_team, yard


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
