"""What the sessions of one run share: the nouns behind which time, money, git and SQL stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio

from agents.models.base import Model
from orchestrator.board import Leases
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.project import Project
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, sessions
from sandbox.room import Engine, RootFs
from verifiers.judging import Judge


@dataclass
class Desk:
    """The run as its sessions see it. `draining` and `held` are set by the run, read by the seats."""

    folder: Path
    project: Project
    settings: Settings
    store: Store
    repository: Repository
    judge: Judge
    gate: Gate
    ledger: Ledger
    engine: Engine
    rooms: Path  # folder of the seats' workspaces
    root: RootFs | None
    sources: Mapping[str, Path]
    models: Mapping[str, Model]  # by model id
    leases: Leases
    shown_cases: frozenset[str]
    utc_now: Callable[[], datetime]
    board_changed: Bell = field(default_factory=Bell)
    state_changed: Bell = field(default_factory=Bell)
    submitting: anyio.Lock = field(default_factory=anyio.Lock)
    verifying: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    accounts: dict[str, anyio.CapacityLimiter] = field(default_factory=dict)
    draining: str = ""
    """Why no new session starts; "" while the run works."""
    stopping: bool = False
    """Sessions end at their next stored turn."""
    held: bool = False
    """`pause --now`: no session makes another request."""
    paused: bool = False

    @property
    def name(self) -> str:
        return self.settings.name

    async def tell(self, session: str, text: str, sender: str = "run") -> None:
        """Leaves a message that the session reads before its next request."""
        await self.store.write(lambda tx: sessions.say(tx, session, sender, text))

    async def journal(self, kind: str, seat: str = "", /, **data: object) -> None:
        def work(tx: Tx) -> None:
            tx.journal(kind, seat, **data)

        await self.store.write(work)
