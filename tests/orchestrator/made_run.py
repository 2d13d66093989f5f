"""A plausible finished run of two hours, written through the store as the run itself writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from agents.models.base import Usage
from orchestrator import board, excused
from orchestrator.records import AttemptState, Change, ChangeState, Session, SessionState, TaskSource, TaskState
from orchestrator.settings import Settings
from orchestrator.store import Store, Tx, changes, matrix
from orchestrator.store.rows import get, insert, put, update
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

BEGAN = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
HOSTILE = "bit-fields \x1b[2J\x1b]0;owned\x07 <script>alert(1)</script> \u202ewider"
ROLES = ("planner", "builder", "builder", "builder")
MODEL = "anthropic/claude-opus-4-6"
CASES = tuple(f"torture/{number:08d}-1@x86_64" for number in range(40)) + tuple(
    f"unit/u{number}" for number in range(4)
)
HELDOUT = tuple(f"torture/held-{number}" for number in range(10))
BOUNCED = {4: "torture/00000002-1@x86_64", 9: "torture/00000005-1@x86_64"}  # change number → case it lost

PROJECT = """
schema = 1
[image]
packages = ["gcc"]
[build]
run = "true"
[[suite]]
name = "torture"
cases = "suites/torture/*"
run = "suites/run.sh"
[[suite]]
name = "unit"
cases = "suites/unit/*"
run = "suites/run.sh"
[[milestone]]
name = "compiles C"
credit = 80
needs = { torture = 0.9 }
[[milestone]]
name = "own tests"
credit = 20
needs = { unit = 1.0 }
"""


class Clock:
    """The run's time: moves only when told."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now

    def minutes(self, minutes: float) -> None:
        self.now = BEGAN + timedelta(minutes=minutes)


def card(passed: int, tree: str, *, lost: str = "", units: int = 4) -> Scorecard:
    """The first `passed` torture cases pass, but for one that is lost."""
    verdicts = {}
    for number, case in enumerate(CASES):
        good = (number < passed or (case.startswith("unit/u") and int(case[6:]) < units)) and case != lost
        reason = "" if good else "run: exit 134, expected 0"
        verdicts[case] = Verdict(case, Outcome.PASS if good else Outcome.FAIL, 0.1, reason)
    return Scorecard(tree, "full", Build(True, 3.0), verdicts)


def heldout(passed: int, tree: str) -> Scorecard:
    verdicts = {
        case: Verdict(case, Outcome.PASS if number < passed else Outcome.FAIL) for number, case in enumerate(HELDOUT)
    }
    return Scorecard(tree, "heldout", Build(True, 3.0), verdicts)


def make_run(logs: Path, name: str = "c-compiler-2", *, ended: bool = True, metered: bool = True) -> Path:
    """A dozen changes of four seats in two hours: ten landed, C4 and C9 bounced."""
    folder = logs / name
    (folder / "frozen" / "project" / "suites" / "torture").mkdir(parents=True)
    (folder / "frozen" / "project" / "suites" / "unit").mkdir()
    for file in ("suites/run.sh", "suites/torture/a", "suites/unit/b"):
        (folder / "frozen" / "project" / file).write_text("#!/bin/sh\n")
        (folder / "frozen" / "project" / file).chmod(0o755)
    (folder / "frozen" / "project" / "seed").mkdir()
    (folder / "frozen" / "project" / "seed" / "README.md").write_text("empty\n")
    (folder / "frozen" / "project" / "goal.md").write_text("A C compiler.\n")
    (folder / "frozen" / "project" / "project.toml").write_text(PROJECT)
    (folder / "lock.json").write_text(
        json.dumps({"project": "sha256:e75d", "image": "sha256:aa11", "gaps": ["no cpu share"]})
    )
    settings = Settings(
        name=name,
        project="projects/c-compiler",
        agents=len(ROLES),
        models={"": MODEL if metered else "open"},
        budget=20_000_000,
        hours=72.0,
    )

    async def work() -> None:
        clock = Clock()
        store = Store(folder / "state.db", clock)
        await store.create(name, settings.model_dump_json())
        await store.begin_epoch()
        for minutes, step in _steps(name, ended, metered):
            clock.minutes(minutes)
            await store.write(step)
        await store.close()

    anyio.run(work)
    return folder


def _steps(name: str, ended: bool, metered: bool) -> list[tuple[float, Callable[[Tx], None]]]:
    steps: list[tuple[float, Callable[[Tx], None]]] = [(0, lambda tx: _begin(tx, name))]
    for seat in range(1, 5):
        steps.append((seat, lambda tx, seat=seat: _session(tx, seat)))  # type: ignore[misc]
    for number in range(1, 13):
        steps.append((number * 9, lambda tx, number=number: _submit(tx, number, metered)))  # type: ignore[misc]
        steps.append((number * 9 + 2, lambda tx, number=number: _judge(tx, number)))  # type: ignore[misc]
    steps.append((119, lambda tx: _wind_up(tx, ended, metered)))
    if ended:
        steps.append((120, _end))
    return steps


def _begin(tx: Tx, name: str) -> None:
    tx.journal(
        "run-started", name=name, project="c-compiler", lock="sha256:e75d", agents=4, models={"": MODEL}, by="ada"
    )
    changes.add_scorecard(tx, card(0, "tree0", units=0), commit="commit0")
    for number in range(1, 14):
        title = HOSTILE if number == 4 else f"cases of kind {number}"
        cases = (BOUNCED.get(number, f"torture/{number:08d}-1@x86_64"),)
        board.put(tx, title, TaskSource.CASES, by="run", cases=cases, order=number)


def _session(tx: Tx, seat: int) -> None:
    name = f"agent-{seat:02d}"
    session = Session(f"{name}/1", name, 1, ROLES[seat - 1], MODEL, SessionState.ACTIVE, tx.now, "commit0")
    insert(tx, session)
    tx.journal("session-started", name, session=session.id, role=session.role, model=MODEL, base="commit0")


def _submit(tx: Tx, number: int, metered: bool) -> None:
    seat, task = f"agent-{1 + number % 4:02d}", f"T{number}"
    session = f"{seat}/1"
    tx.journal("claimed", seat, task=task, session=session, plan="look at src/abi.rs")
    tx.journal(
        "call", seat, session=session, turn=number, name="shell", brief="cargo test\x1b[31m", seconds=4.2, failed=False
    )
    tx.journal("verified", seat, session=session, what="fast", passed=18, total=20, seconds=31.0)
    if metered:
        usage = json.dumps(vars(Usage(input=1000, output=500, cache_read=9000)))
        settled = {"cost": 510_000, "usage": usage, "resolved": "claude-opus-4-6"}
        _attempt(tx, session, number, task, AttemptState.SETTLED, 900_000, **settled)
    changes.add(
        tx,
        Change(
            f"C{number}",
            session,
            seat,
            task,
            ChangeState.QUEUED,
            tx.now,
            f"commit{_landed(number)}",
            f"sub{number}",
            f"tree{number}",
            f"call{number}",
            f"Lower kind {number}\n\nIt was missing.",
            ("torture/x",),
            ("src/lower.rs",),
            84,
            12,
        ),
    )
    tx.run("UPDATE session SET turns = turns + 20 WHERE id = ?", session)


def _attempt(tx: Tx, session: str, turn: int, task: str, state: AttemptState, reserved: int, **ended: object) -> None:
    asked = {"session": session, "turn": turn, "number": 1, "task": task, "model": MODEL, "metered": True}
    put(tx, "attempt", epoch=tx.epoch, at=tx.now, state=state, reserved=reserved, **asked, **ended)


def _landed(number: int) -> int:
    """The number of the last change that landed before change `number`."""
    return max((one for one in range(1, number) if one not in BOUNCED), default=0)


def _judge(tx: Tx, number: int) -> None:
    change, before = get(tx.db, Change, f"C{number}"), _landed(number)
    tx.journal("judging", changes=[change.id], main=f"commit{before}", tier="full")
    lost = BOUNCED.get(number, "")
    verdict = card(3 * number, change.tree, lost=lost)
    passed = len(verdict.passed())
    facts = {"passed": passed, "total": len(CASES), "lost": [lost] if lost else [], "gained": 3, "built": True}
    if lost:
        changes.add_scorecard(tx, verdict, seconds=96.0)
        tx.journal("judged", changes=[change.id], tree=change.tree, tier="full", seconds=96.0, build_s=14.0, **facts)
        reason = f"loses {lost}"
        changes.finish(
            tx, change, ChangeState.BOUNCED, reason=f"{reason}\nERROR {lost}: run: exit 134, expected 0", lost=[lost]
        )
        tx.run("UPDATE task SET bounces = bounces + 2 WHERE id = ?", change.task)
        tx.journal("bounced", change.seat, change=change.id, task=change.task, reason=reason, lost=[lost], files=[])
        return
    commit = f"commit{number}"
    scorecard = changes.add_scorecard(tx, verdict, commit=commit, seconds=96.0)
    tx.journal("judged", changes=[change.id], tree=change.tree, tier="full", seconds=96.0, build_s=14.0, **facts)
    changes.intend(tx, change.id, f"commit{before}", commit, scorecard)
    tx.run("UPDATE landing SET done = 1 WHERE change = ?", change.id)
    matrix.record(tx)
    changes.finish(tx, change, ChangeState.LANDED, landed_as=commit)
    landed = {"task": change.task, "commit": commit, "passed": passed, "total": len(CASES), "gained": 3}
    tx.journal("landed", change.seat, change=change.id, **landed)
    update(tx, "task", change.task, state=TaskState.CLOSED, reason="its cases pass on main")
    tx.journal("task-closed", task=change.task, reason="its cases pass on main")
    hidden = changes.add_scorecard(tx, heldout(number // 2, f"tree{number}"), commit=commit)
    tx.journal("heldout-judged", commit=commit, scorecard=hidden)


def _wind_up(tx: Tx, ended: bool, metered: bool) -> None:
    if metered:
        _attempt(tx, "agent-02/1", 99, "T13", AttemptState.IN_DOUBT, 410_000, failure="cut")
        _attempt(tx, "agent-02/1", 99, "T13", AttemptState.RESERVED, 370_000)
    tx.journal("waiting", "agent-03", who="agent-03/1", why="anthropic: 429", until=310.0)
    tx.journal("said", to="agent-02", by="ada", text="prefer aarch64")
    if not ended:
        return
    for seat in range(1, 5):
        session = f"agent-{seat:02d}/1"
        update(tx, "session", session, state=SessionState.ENDED, ended=tx.now, end="drained", note="left at\x1b[1m src")
        tx.journal("session-ended", session[:8], session=session, end="drained", note="left at\x1b[1m src", turns=60)
        tx.journal("seat-idle", session[:8], reason="the run drains")


def _end(tx: Tx) -> None:
    tx.run("UPDATE run SET state = 'ended', reason = 'idle: 12 h without a newly passing case'")
    tx.journal("run-ended", reason="idle: 12 h without a newly passing case")


def make_exceptions(folder: Path) -> None:
    """At the end of a made run: what its main may lose, and three changes that conflict in one file."""

    def write(tx: Tx) -> None:
        excused.quarantine(tx, {CASES[6]: "passed and failed on main commit3, 2 of 3 runs"})
        until = tx.now + timedelta(days=2)
        excused.waive(tx, ["torture/0000000[0134]-1@x86_64"], "calls move to the new ABI", until, "ada")
        for number in range(20, 23):
            rest = ("base", f"sub{number}", f"tree{number}", f"call{number}", "Calls", (), ("src/abi.rs",))
            change = Change(f"C{number}", "agent-02/1", "agent-02", "T9", ChangeState.QUEUED, tx.now, *rest)
            changes.add(tx, change)
            changes.bounce(tx, change, "conflicts with main in src/abi.rs", files=["src/abi.rs"])

    async def work() -> None:
        store = Store(folder / "state.db", lambda: BEGAN + timedelta(minutes=120))
        await store.begin_epoch()
        await store.write(write)
        await store.close()

    anyio.run(work)
