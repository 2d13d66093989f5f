"""What a session leaves without landing it is there for the task's next owner: in real git, rooms and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.repository import Repository
from orchestrator.workspace import CHECKPOINT, kept, seen
from tests.orchestrator.running import Run, faults, small_project, yard
from tests.orchestrator.test_open_seats import seat
from tests.orchestrator.workshop import NOON, Workspace, land, make_repository

pytestmark = pytest.mark.anyio


async def left(repository: Repository, room: Workspace, name: str = "agent-01-1") -> str:
    """A session leaves what its room holds; what the run says of it."""
    found = await repository.receive_checkpoint(await room.packed(CHECKPOINT), name)
    return await repository.keep("T1", found, "agent-01/1", "stuck\nin \x1b[31m it", NOON)


async def test_a_later_owner_takes_kept_work_and_hands_it_in_as_a_change_of_its_own(tmp_path: Path) -> None:
    repository = await make_repository(tmp_path)
    old, first = [await Workspace.make(tmp_path / name, repository) for name in ("old", "first")]
    known = await repository.main()
    await first.sh("echo landed >landed.txt")
    main = await land(repository, await first.submit(1))
    author = await Workspace.make(tmp_path / "author", repository)
    await author.sh("echo half >half.txt; git add half.txt; git commit -qm wip; rm README.md; echo more >>half.txt")
    assert await left(repository, author) == "work kept: 2 files, +2 -1"
    told = (await repository.kept())["T1"]
    assert told == f"kept/T1: 2 files, +2 -1 on main {main[:7]}, by agent-01/1, 14 Mar 12:00 UTC: > stuck in [31m it"
    again = Repository(tmp_path / "run", durable=False)
    assert await again.kept() == {"T1": told}  # also for the process that goes on after a crash
    commit, _ = await again.kept_pack("T1", known)
    assert await repository.git.text("log", "-1", "--format=%P", commit) == main

    await old.sh("echo mine >mine.txt")  # a room that has not heard of newer mains
    before = await seen(old.run)
    for _ in range(2):
        commit, pack = await again.kept_pack("T1", known)
        assert (await old.run(kept("T1", commit, pack))).ok
        assert await seen(old.run) == before
    assert (await old.run(kept("T1", main, (await again.kept_pack("T1", known))[1], anew=False))).ok
    assert await old.sh("git rev-parse kept/T1") == commit
    assert await old.sh("git diff --name-only main...kept/T1") == "README.md\nhalf.txt\nlanded.txt"
    await old.sh(
        "git fetch -q; git add -A; git commit -qm mine; git rebase -q origin/main; git merge -q --squash kept/T1"
    )
    change = await repository.receive(await old.packed(), "refs/changes/2")
    assert sorted(change.files) == ["README.md", "half.txt", "mine.txt"] and change.base == main
    merged = await Workspace.make(tmp_path / "merged", repository)
    commit, pack = await again.kept_pack("T1", main)
    assert (await merged.run(kept("T1", commit, pack))).ok
    await merged.sh("git merge -q --no-edit kept/T1; echo also >also.txt")
    change = await repository.receive(await merged.packed(), "refs/changes/3")
    parents = await repository.git.text("log", "--format=%P", f"{main}..{change.commit}")
    assert sorted(change.files) == ["README.md", "also.txt", "half.txt"] and parents == main
    await land(repository, change)
    await repository.forget("T1")
    assert await repository.kept() == {} == await Repository(tmp_path / "run").kept()


async def test_what_may_not_come_to_main_is_not_kept_and_that_is_said(tmp_path: Path) -> None:
    repository = await make_repository(tmp_path)
    room = await Workspace.make(tmp_path / "room", repository)
    assert await left(repository, room) == "no work to keep" and await repository.kept() == {}
    await room.sh("echo good >good.txt")
    await left(repository, room)
    before = await repository.kept()
    await room.sh("ln -s /etc/passwd link")
    assert (await left(repository, room)).startswith("work not kept: 'link' is a symbolic link to '/etc/passwd'")
    await room.sh("rm link; head -c 33M /dev/zero >large")
    assert "a file of 33 MiB is too large" in await left(repository, room)
    await room.sh("rm large good.txt")
    assert await left(repository, room) == "no work to keep"
    assert await repository.kept() == before  # what was kept first stays
    await room.sh("echo good >good.txt")
    await land(repository, await room.submit())
    assert await left(repository, room) == "no work to keep"  # main has it all


def claim(run: Run, token: str, part: str) -> str:
    answer: str = seat(run, token, "claim", run.one("SELECT id FROM task WHERE cases LIKE ?", f"%a-{part}%"))["text"]
    return answer


def test_released_and_left_work_goes_from_owner_to_owner_through_a_killed_process_and_lands() -> None:
    with yard() as place:
        run = place.start(small_project(place.folder / "project", ("red", "green")), "open", 2)
        run.until("SELECT 1 FROM scorecard")
        first, second = (seat(run, "", "take")["token"] for _ in range(2))
        assert "kept/" not in claim(run, first, "red")
        seat(run, first, "shell", "mkdir -p src && echo half >src/half && echo re >parts/red")
        assert seat(run, first, "release", "--reason", "too hard")["text"].endswith(
            "released, work kept: 2 files, +2 -0"
        )
        assert run.git("for-each-ref", "refs/kept")
        run.kill()
        run.resume()
        seat(run, second, "take")
        told = claim(run, second, "red")
        assert "2 files, +2 -0 on main" in told and "by agent-01/1" in told and "> too hard" in told, told
        task = run.one("SELECT task FROM claim")
        seat(run, second, "shell", f"git merge -q --squash kept/{task} && cat src/half && echo red >parts/red")
        seat(run, second, "leave")
        third = seat(run, "", "take")["token"]
        assert "by agent-02/1" in claim(run, third, "red")
        stamps = run.rows("SELECT stamp FROM call WHERE session = 'agent-02/1' AND stamp <> ''")
        assert len(stamps) == 1
        seat(run, third, "shell", f"git merge -q --squash kept/{task} && git diff --cached --quiet HEAD", code=1)
        assert seat(run, third, "submit", "--summary", "Red, by two", "--fixes", "parts/a-red")["session_over"]
        run.until("SELECT 1 FROM change WHERE state = 'landed'")
        assert run.git("show", "main:src/half") == "half"
        assert run.git("for-each-ref", "refs/kept") == ""
        assert place.say("stop", run.name, "--now").returncode == 0
        assert not faults(run)


def test_what_bounced_three_times_is_there_for_the_next_owner() -> None:
    with yard() as place:
        run = place.start(small_project(place.folder / "project", ("red",)), "open", 2)
        run.until("SELECT 1 FROM scorecard")
        first, second = (seat(run, "", "take")["token"] for _ in range(2))
        claim(run, first, "red")
        for number in range(3):
            seat(run, first, "shell", f"echo spoilt{number} >parts/base && echo red >parts/red")
            bounced = seat(run, first, "submit", "--summary", "Red", code=1)
            assert f"C{number + 1} bounced" in bounced["text"]
        run.until("SELECT 1 FROM session WHERE id = 'agent-01/1' AND state = 'ended'")
        told = claim(run, second, "red")
        assert "2 files, +2 -1 on main" in told and "> C3 bounced: loses parts/a-base" in told, told
        task = run.one("SELECT task FROM claim")
        shown = seat(run, second, "shell", f"git show kept/{task}:parts/base kept/{task}:parts/red")["text"]
        assert "spoilt2" in shown and "red" in shown
        title = " ".join(reversed(run.one("SELECT title FROM task").upper().split()))
        seat(run, first, "take")
        twin = seat(run, first, "claim", "--title", title, code=1)["text"]
        assert f"has the same words, held by {run.one('SELECT session FROM claim')}" in twin
        seat(run, first, "claim", task, code=1)  # who is not given the task is not given what others made for it
        seat(run, first, "shell", f"git rev-parse -q --verify kept/{task}", code=1)
        seat(run, first, "claim", "--title", "Something else", "--touches", "src")
        own = run.one("SELECT id FROM task WHERE title = 'Something else'")
        seat(run, second, "release", "--reason", f"waits for {own}")
        assert run.one("SELECT after FROM task WHERE id = ?", task) == f'["{own}"]'
        assert run.one("SELECT releases FROM task WHERE id = ?", task) == 1  # of who could not do it
        assert place.say("stop", run.name, "--now").returncode == 0
