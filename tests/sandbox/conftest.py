"""Rooms to test, of every engine that this machine has."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sandbox import mounts
from sandbox.engines import choose
from sandbox.image import ImageSpec, build
from sandbox.keep import state_home
from sandbox.room import MIB, Engine, EngineUnavailable, Labels, Limits, Room, RoomSpec, RootFs

ENGINES = ("bubblewrap", "docker", "local")
RUN = f"test-{os.getpid()}"
SMALL = Limits(cpus=2.0, memory=256 * MIB, processes=60, disk=48 * MIB, inodes=3_000)


@pytest.fixture(scope="session")
def rootfs() -> RootFs:
    """The smallest image that seats could work in; built once on a machine, not once for each run of the tests."""
    spec = ImageSpec(packages=("git", "python3-minimal"))
    return anyio.run(lambda: build(spec, state_home(), progress=lambda line: None))


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A home for engines that other users can walk into, as the real one is."""
    folder = Path(tempfile.mkdtemp(prefix="rooms-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    mounts.release(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, place: Path) -> Engine:
    return the_engine(request.param, place)


def the_engine(name: str, place: Path) -> Engine:
    try:
        return choose(name, place / "home")
    except EngineUnavailable as error:
        if os.geteuid() == 0:
            raise  # the set-up starts what is missing, so that nothing is skipped as root
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def spec(engine: Engine, rootfs: RootFs, place: Path) -> RoomSpec:
    """A seat's room, its bounds small enough to be reached in a test."""
    readable = place / "readable"
    readable.mkdir(exist_ok=True)
    (readable / "note").write_text("read me")
    return RoomSpec(
        name="seat",
        labels=Labels(run=RUN, epoch=1, seat="agent-01"),
        root=None if engine.name == "local" else rootfs,
        workspace=place / "workspaces" / engine.name / "seat",  # whose folder nobody has made yet
        limits=SMALL,
        user=1,
    )


@pytest.fixture(scope="session")
def room(engine: Engine, spec: RoomSpec) -> Iterator[Room]:
    """One room for all tests that leave it as they found it."""
    room = anyio.run(engine.open, spec)
    yield room
    anyio.run(room.stop)
    assert spec.workspace is not None
    anyio.run(engine.discard, spec.workspace)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
