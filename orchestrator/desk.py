"""What the sessions of one run share: the nouns behind which time, money, git and SQL stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import anyio

from agents.models.base import Model
from orchestrator.briefing import Show, render_tasks
from orchestrator.excused import flaky
from orchestrator.freezing import Frozen
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.ramp import PLANNER
from orchestrator.records import Session
from orchestrator.replay import Replay
from orchestrator.repository import Repository
from orchestrator.settings import Settings
from orchestrator.signals import Bell
from orchestrator.store import Store
from sandbox.room import Engine, RootFs
from verifiers.scorecard import Judge

FIRST_USER: Final = 10  # of the seats; judges come before


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
    shown_cases: frozenset[str]
    changed: Bell  # the gate's
    replay: Replay | None = None
    """What a recorded team follows; of any other, None."""
    verifying: anyio.Lock = field(default_factory=anyio.Lock)
    submitting: anyio.Lock = field(default_factory=anyio.Lock)
    accounts: dict[str, anyio.CapacityLimiter] = field(default_factory=dict)
    working: list[Seat] = field(default_factory=list)  # seats that have a session, or wait for work
    beginning: anyio.Lock = field(default_factory=anyio.Lock)
    refused: tuple[int, int, str] = (-1, 0, "")
    """The newest refusal of a builder's session: after how many rings of `changed`, to which seat's user, and why."""
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

    @cached_property
    def seats(self) -> Sequence[Seat]:
        """The team: planners first, then the project's order."""
        shares = self.settings.seats(self.frozen.project.roles)
        order = sorted(shares, key=lambda role: role != "planner")
        names = [role for role in order for _ in range(shares[role])]
        return [
            Seat(f"agent-{number:02d}", role, self.settings.model_of(role), FIRST_USER + number)
            for number, role in enumerate(names, start=1)
        ]

    def workspace(self, session: Session) -> Path:
        """Of a seat's sessions one may wait for its verdict while another works."""
        return self.rooms / session.id.replace("/", "-")

    async def begun(self) -> bool:
        """Whether a case passes on main, of those that the project names if it names any: what a seed's own unit tests
        do is no beginning. Or a planner's change is there: the parts that it drew can be built side by side."""
        passed = (await self.gate.judge_main()).passed()
        drawn = "SELECT 1 FROM session AS s JOIN change ON session = s.id WHERE role = ? AND change.state = 'landed'"
        return bool(passed & self.shown_cases if self.shown_cases else passed) or await self.store.read(
            lambda db: bool(db.execute(drawn, (PLANNER,)).fetchone())
        )

    async def journal(self, kind: str, seat: str = "", /, **data: object) -> None:
        await self.store.write(lambda tx: tx.journal(kind, seat, **data))

    async def board(self, show: Show = Show.READY, *, session: str = "", limit: int = 10) -> str:
        """The board as seats read it; above it main, and what passes there."""
        main, card = await self.repository.main(), await self.gate.judge_main()
        counts = card.counts(await self.store.read(flaky))
        suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in counts.items())
        look = partial(render_tasks, show=show, now=self.store.utc_now(), session=session, limit=limit, card=card)
        return f"main {main[:7]}, {suites}\n{await self.store.read(look)}"
