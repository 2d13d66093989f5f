"""What the run remembers, as frozen data. `store/` is the one place that encodes and decodes it.

Words are those of docs/design.md. Ids are what people paste into commands: `T91` a task, `C63` a change, `agent-07`
a seat, `agent-07/12` a session. Money is integer micro-dollars; times are UTC-aware.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RunState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"
    ENDED = "ended"


class TaskState(StrEnum):
    READY = "ready"  # may be blocked by `after`: see board.ready
    CLAIMED = "claimed"
    CLOSED = "closed"
    DROPPED = "dropped"


class TaskSource(StrEnum):
    PROJECT = "project"  # the project's plan
    PLANNER = "planner"
    CASES = "cases"  # failing visible cases with one failure signature
    SEAT = "seat"  # claim(title=…)
    FLAKY = "flaky"  # a case in quarantine: the task names no case, and closes when a change for it lands
    REGRESSION = "regression"  # found after landing


@dataclass(frozen=True)
class Task:
    """A unit of work. `cases` are the ids or patterns that say when it is done."""

    id: str
    title: str
    state: TaskState
    source: TaskSource
    created: datetime
    by: str = ""  # who wrote it: a session, `run`, `project`
    why: str = ""
    cases: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    signature: str = ""
    order: float = 0.0  # smaller is sooner
    reason: str = ""  # why closed or dropped
    bounces: int = 0
    releases: int = 0
    merged: str = ""  # the task that took its cases over


@dataclass(frozen=True)
class Claim:
    task: str
    session: str
    epoch: int
    since: datetime
    plan: str = ""
    touches: tuple[str, ...] = ()


class SessionState(StrEnum):
    ACTIVE = "active"
    WAITING = "waiting"  # for a change's verdict
    ENDED = "ended"


@dataclass(frozen=True)
class Session:
    """One conversation. What it was told is pinned: model, prompt and tools by payload hash."""

    id: str
    seat: str
    number: int
    role: str
    model: str
    state: SessionState
    started: datetime
    base: str  # main when its workspace was made
    system: str = ""  # payload hash
    tools: str = ""  # payload hash
    opening: str = ""  # payload hash of the first message: the block the run writes
    open_seat: bool = False
    token: str = ""  # of an open seat: who shows it speaks for the seat
    turns: int = 0


class CallState(StrEnum):
    PENDING = "pending"  # stored with the reply, not begun
    RUNNING = "running"
    DONE = "done"


class ChangeState(StrEnum):
    QUEUED = "queued"
    STAGED = "staged"
    PARKED = "parked"  # it conflicts with staged work alone
    JUDGING = "judging"
    LANDED = "landed"
    BOUNCED = "bounced"
    WITHDRAWN = "withdrawn"

    @property
    def terminal(self) -> bool:
        return self in (ChangeState.LANDED, ChangeState.BOUNCED, ChangeState.WITHDRAWN)


@dataclass(frozen=True)
class Change:
    """What a session submitted: `commit` is one tree on `base`, a commit of main, kept at refs/changes/N."""

    id: str
    session: str
    seat: str
    task: str
    state: ChangeState
    submitted: datetime
    base: str
    commit: str
    tree: str
    call: str  # the submit call whose answer is its end
    summary: str = ""
    fixes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    landed_as: str = ""  # commit on main
    reason: str = ""  # why bounced or withdrawn: one short line
    lost: tuple[str, ...] = ()  # cases


@dataclass(frozen=True)
class Regression:
    """A case that passed on one judged main and not on a later one. Places are numbers of landings, 0 is the seed."""

    case: str
    good: int
    bad: int
    culprit: int | None  # None while it is looked for; 0 = nobody's: the case passes and fails on one main
    task: str
    revert: str | None  # None while it is wanted; the change that takes the culprit's back, or ""


class AttemptState(StrEnum):
    RESERVED = "reserved"
    SETTLED = "settled"
    IN_DOUBT = "in-doubt"  # ended without usage: counts at its worst case
    FREE = "free"  # refused before the vendor worked on it (429, 529, connection refused): costs nothing


class ExcuseKind(StrEnum):
    FLAKY = "flaky"  # in quarantine: it disagreed with itself on main
    WAIVED = "waived"  # by a person, for a while


@dataclass(frozen=True)
class Excuse:
    """A case that main may lose. `reason` is the evidence that it is flaky, or why a person waived it."""

    id: int
    case: str
    kind: ExcuseKind
    since: datetime
    reason: str
    by: str
    until: datetime | None = None  # of a waiver
    task: str = ""  # of a flaky case


@dataclass(frozen=True)
class Note:
    topic: str
    session: str
    at: datetime
    text: str
