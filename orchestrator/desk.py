"""What the sessions of one run share: the nouns behind which time, money, git and SQL stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio

from agents.models.base import Model
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.project import Project
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx, sessions
from sandbox.room import Engine, RootFs
from verifiers.judging import Judge


@dataclass(frozen=True)
class Seat:
    """A numbered place in the team. `user` is its rooms' own host user, by number."""

    name: str
    role: str
    model: str
    user: int


@dataclass
class Desk:
    """The run as its sessions see it. Who may work is said by the last four fields, which the run alone sets."""

    folder: Path
    project: Project
    prompts: Mapping[str, str]  # by role, as frozen
    settings: Settings
    store: Store
    repository: Repository
    judge: Judge
    gate: Gate
    ledger: Ledger
    engine: Engine
    label: str  # of the run's rooms: two runs of one name, in two log folders, are two runs
    rooms: Path  # folder of the seats' workspaces
    root: RootFs | None
    sources: Mapping[str, Path]  # shown ones
    models: Mapping[str, Model]  # by model id; open seats have none
    seats: Sequence[Seat]
    shown_cases: frozenset[str]
    utc_now: Callable[[], datetime]
    verifying: anyio.CapacityLimiter
    submitting: anyio.Lock = field(default_factory=anyio.Lock)
    accounts: dict[str, anyio.CapacityLimiter] = field(default_factory=dict)
    board_changed: Bell = field(default_factory=Bell)
    state_changed: Bell = field(default_factory=Bell)
    draining: str = ""
    """Why no new session starts; "" while the run works."""
    broke: str = ""
    """Set by the session that the run's budget could not hold any more."""
    stopping: bool = False
    """Sessions end at their next stored turn, and stay live for a resume."""
    paused: bool = False
    """No new session."""
    held: bool = False
    """No session makes another request."""

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
