"""A run for measurements: the real store, ledger, repository, board, seats and turn loop over a model that plays a
list of replies, and a judge that passes whatever it sees."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from agents.models.base import Reply, Request, Stop, Text, ToolCall, Usage
from agents.models.choose import account
from agents.models.scripted import Price
from orchestrator import VERSION, board
from orchestrator.desk import Desk
from orchestrator.freezing import Frozen, RunLock, compose
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.prices import Prices
from orchestrator.project.folder import load
from orchestrator.records import TaskSource
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx
from orchestrator.store.store import utc_now
from sandbox.room import Engine, RootFs
from verifiers.scorecard import Build, Outcome, Scorecard, Selection, Tree, Verdict

HELLO: Final = Path(__file__).parents[1] / "projects/hello"
MODEL: Final = "played"
PRICE: Final = Price(input=3, output=15)  # type: ignore[arg-type]


@dataclass
class Played:
    """A model that gives its replies in order, after about `think_s` seconds each: one list for each session, told
    apart by how the conversation begins. It reads nothing, so that what is measured is not the model."""

    replies: Callable[[str, int], Sequence[ToolCall] | str]  # by opening and turn
    think_s: float = 0.0
    window: int = 100_000_000
    asked: Bell = field(default_factory=Bell)  # by a new session
    _turns: dict[str, int] = field(default_factory=dict)
    _luck: random.Random = field(default_factory=partial(random.Random, 1))

    async def reply(self, request: Request) -> Reply:
        await anyio.sleep(self.think_s * self._luck.uniform(0.5, 1.5))
        opening = request.messages[0].blocks[0]
        assert isinstance(opening, Text)
        turn = self._turns[opening.text] = self._turns.get(opening.text, 0) + 1
        if turn == 1:
            self.asked.ring()
        said, usage = self.replies(opening.text, turn), Usage(input=1000, output=100)
        if isinstance(said, str):
            return Reply((Text(said),), Stop.END, usage, MODEL, vars(usage))
        return Reply(tuple(said), Stop.TOOLS, usage, MODEL, vars(usage))

    async def close(self) -> None: ...

    @property
    def sessions(self) -> int:
        """That have asked for a reply so far."""
        return len(self._turns)


class Content:
    """A judge of two cases, of which one passes and one fails on every tree."""

    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        verdicts = {"unit/one": Outcome.PASS, "unit/two": Outcome.FAIL}
        found = {case: Verdict(case, outcome) for case, outcome in verdicts.items()}
        return Scorecard(tree.id, selection.tier, Build(True, 0.0), found)


@asynccontextmanager
async def a_run(
    folder: Path, model: Played, engine: Engine, root: RootFs | None, seats: int = 1, tasks: int = 1
) -> AsyncIterator[Desk]:
    """A run's desk, under a budget in money as real runs are, its board filled, its seed judged."""
    project = load(HELLO, "hello")
    settings = Settings(name="measured", project=str(HELLO), agents=seats, models={"": MODEL}, budget=10**15)
    store = Store(folder / "state.db", utc_now)
    await store.create(settings.name, settings.model_dump_json())
    await store.begin_epoch()
    repository = await Repository.create(folder, HELLO / "seed")
    for name in ("team", "current_tasks"):
        await anyio.Path(folder / name).mkdir()
    for name in ("main.git", "current_tasks"):
        await anyio.Path(folder / "team" / name).mkdir()
    gate = Gate(store, repository, Content(), Content(), settings.name)
    lock = RunLock(project="hello", digests={"project": ""}, orchestrator=VERSION)
    desk = Desk(
        folder=folder,
        frozen=Frozen(project, {role: compose(role, project) for role in project.roles}, (), lock),
        settings=settings,
        store=store,
        repository=repository,
        judge=Content(),
        gate=gate,
        ledger=Ledger(Prices({MODEL: PRICE}), settings.budget, settings.budget),
        engine=engine,
        label=f"measured-{folder.name}",
        rooms=folder / "workspaces",
        root=root,
        sources={},
        models={MODEL: model},
        shown_cases=frozenset(),
        changed=gate.changed,
    )
    desk.accounts[account(MODEL)] = anyio.CapacityLimiter(seats)  # no vendor, so none whose limits we keep
    await gate.judge_main()

    def fill(tx: Tx) -> None:
        for number in range(tasks):
            board.put(tx, f"Part {number} of the thing is missing", TaskSource.PROJECT, by="project")

    await store.write(fill)
    try:
        yield desk
    finally:
        await store.close()


def call(name: str, turn: int, **arguments: Any) -> ToolCall:
    return ToolCall(f"call_{turn}", name, arguments)
