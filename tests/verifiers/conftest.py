"""Fixtures of the judge's tests: one small root file system for all, one small project for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sandbox.room import Engine, RootFs
from tests.verifiers.plain_bubblewrap import PlainBubblewrap
from tests.verifiers.tiny import make_plan, make_project, make_root
from verifiers.cases import expand
from verifiers.suites import JudgePlan


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> RootFs:
    return make_root(tmp_path_factory.mktemp("root"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    yield PlainBubblewrap()


@pytest.fixture
def plan(tmp_path: Path, root: RootFs) -> JudgePlan:
    """Thirty cases, some of them held out, and a unit suite."""
    folder = tmp_path / "project"
    suites = make_project(folder, 30)
    cases = anyio.run(expand, "tiny", folder, {}, suites)
    return make_plan(folder, root, suites, cases)
