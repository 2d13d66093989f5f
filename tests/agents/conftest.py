from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from agents.models.base import Model
from agents.models.choose import make
from tests.wire.faults import Plan
from tests.wire.server import Wire, serve


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Serving(Protocol):
    def __call__(self, script: str, plan: Plan | None = None, retry_after: float = 0.2) -> Wire: ...


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Starts wire servers that play a script's text; they end with the test."""
    with ExitStack() as stack:

        def start(script: str, plan: Plan | None = None, retry_after: float = 0.2) -> Wire:
            file = tmp_path / "team.toml"
            file.write_text(script)
            return stack.enter_context(serve(file, plan, tmp_path / "billed.jsonl", retry_after=retry_after))

        yield start


Models = Callable[[str, Mapping[str, str]], Model]


@pytest.fixture
async def models(anyio_backend: str) -> AsyncIterator[Models]:
    """Makes models; they are closed with the test, in its event loop."""
    made: list[Model] = []

    def one(id: str, env: Mapping[str, str]) -> Model:
        made.append(make(id, env))
        return made[-1]

    yield one
    for model in made:
        await model.close()
