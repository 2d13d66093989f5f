"""What the sessions of one run share: the nouns behind which time, money, git and SQL stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from agents.models.base import Model
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.project.freezing import Frozen
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from orchestrator.signals import Bell
from orchestrator.store import Store
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
    frozen: Frozen
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
    changed: Bell  # the gate's
    verifying: anyio.Lock = field(default_factory=anyio.Lock)
    submitting: anyio.Lock = field(default_factory=anyio.Lock)
    accounts: dict[str, anyio.CapacityLimiter] = field(default_factory=dict)
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

    async def journal(self, kind: str, seat: str = "", /, **data: object) -> None:
        await self.store.write(lambda tx: tx.journal(kind, seat, **data))
