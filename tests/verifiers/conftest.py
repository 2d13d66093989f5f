"""Fixtures of the judge's tests: one small root file system for all, one small project for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sandbox.bubblewrap import BubblewrapEngine
from sandbox.room import Engine, EngineUnavailable, RootFs
from tests.verifiers.tiny import make_plan, make_project, make_root
from verifiers.cases import expand
from verifiers.suites import JudgePlan


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> RootFs:
    return make_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")
def rooms_home() -> Iterator[Path]:
    """A place that every room's user can walk to."""
    with tempfile.TemporaryDirectory(prefix="judge-tests-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def engine(rooms_home: Path) -> Iterator[Engine]:
    engine = BubblewrapEngine(rooms_home)
    try:
        engine.check()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    yield engine
    anyio.run(engine.sweep, "test", 1_000)


@pytest.fixture
def plan(tmp_path: Path, root: RootFs) -> JudgePlan:
    """Fourteen cases, some of them held out, and a unit suite."""
    return plan_of(14, tmp_path, root)


@pytest.fixture
def large(tmp_path: Path, root: RootFs) -> JudgePlan:
    """More cases than the fast tier takes."""
    return plan_of(30, tmp_path, root)


def plan_of(cases: int, tmp_path: Path, root: RootFs) -> JudgePlan:
    folder = tmp_path / "project"
    suites = make_project(folder, cases)
    return make_plan(folder, root, suites, expand("tiny", folder, {}, suites))
