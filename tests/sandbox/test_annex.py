"""The mount namespace in which the rooms of cases are made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import annex, mounts
from sandbox.room import Command, Engine, Mount, RoomSpec

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not mounts.can_mount(), reason="mounting is for root"),
    pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True),  # the only one that makes rooms there
]


def inside(folder: Path) -> list[Path]:
    """What is mounted in there at or below a folder."""
    return annex.THREAD.submit(mounts.below, folder).result()


@pytest.fixture
def mounted(place: Path) -> Iterator[Path]:
    """A folder on which the machine mounts something only now."""
    assert annex.works()
    folder = place / "mounted" / "here"
    folder.mkdir(parents=True)
    (folder / "note").write_text("below it")
    subprocess.run(["mount", "-t", "tmpfs", "test", str(folder)], check=True)
    (folder / "note").write_text("on it")
    yield folder
    mounts.release(folder)


async def test_a_cases_room_mounts_nothing_that_the_machine_sees_and_leaves_nothing(
    engine: Engine, spec: RoomSpec, place: Path
) -> None:
    out = place / "workspaces" / "unseen"
    room = await engine.open(replace(spec, name="unseen", workspace=out, brief=True))
    assert (await room.run(Command(("sh", "-c", "echo made >product")))).ok
    assert inside(out) and not mounts.below(out) and not [*out.iterdir()]
    await room.stop()
    await engine.discard(out)
    assert not inside(place / "workspaces") and not out.exists()


async def test_what_is_mounted_outside_is_seen_in_a_cases_room_and_given_up_when_it_is_discarded(
    engine: Engine, spec: RoomSpec, mounted: Path
) -> None:
    assert not inside(mounted)
    case = replace(spec, name="late", workspace=None, brief=True, mounts=(Mount(mounted, "/cases"),))
    room = await engine.open(case)
    assert (await room.run(Command(("cat", "/cases/note"), cwd="/tmp"))).stdout == b"on it"
    await room.stop()
    assert inside(mounted) == [mounted]
    await engine.discard(mounted)
    assert not inside(mounted) and not mounts.below(mounted)


async def test_little_is_mounted_in_there(engine: Engine, mounted: Path) -> None:
    everything = inside(Path("/"))
    assert Path("/proc") in everything and mounted not in everything
    assert engine.apart() and len(everything) < len(mounts.below(Path("/")))  # type: ignore[attr-defined]  # no Docker


async def test_a_job_of_a_cases_room_works_where_the_room_is(engine: Engine, spec: RoomSpec, place: Path) -> None:
    out = place / "workspaces" / "job-of-a-case"
    room = await engine.open(replace(spec, name="case-job", workspace=out, brief=True, scratch_exec=False))
    await room.run(Command(("sh", "-c", "echo made >product")))
    await room.start("late", Command(("sh", "-c", "cat product; cp /bin/true /tmp/t && /tmp/t && echo ran")))
    done = (await room.job("late", wait_s=30)).result
    await room.stop()
    await engine.discard(out)
    assert done is not None and done.stdout == b"made\n"
