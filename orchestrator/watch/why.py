"""Why a change bounced, a task waits, a seat idles, a session ended, a case fails: what `why ID` answers."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.records import Change, ChangeState, Session, SessionState, Task
from orchestrator.store import changes
from orchestrator.store.rows import record
from orchestrator.store.store import read_payload, when
from orchestrator.watch.journal import Entry, Narrator, entries, spoken
from orchestrator.watch.queries import PRICE, seats_of
from orchestrator.watch.text import clock, money, plural, some, span, visible
from verifiers.scorecard import Outcome, Scorecard


@dataclass(frozen=True)
class Lost:
    """A case that a change lost: where it still passes, and from which change on it fails."""

    case: str
    passes_on: tuple[str, ...]
    fails_from: str
    runs: int
    line: str


@dataclass(frozen=True)
class Fact:
    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Why:
    run: str
    as_of: datetime
    id: str
    kind: str
    outcome: str
    reason: str
    lost: tuple[Lost, ...] = ()
    gained: tuple[str, ...] = ()
    next: str = ""
    facts: tuple[Fact, ...] = ()


HISTORY: Final = 12  # lines of history shown
STEPS: Final = (
    *("task-added", "claimed", "released", "submitted", "landed", "bounced"),
    *("task-closed", "task-dropped", "task-reopened"),
)
Answer = Callable[[sqlite3.Connection, str, datetime, str], Why]


def why(db: sqlite3.Connection, name: str, at: datetime) -> Why:
    """Explains anything that has an id. Raises `KeyError` for what the run does not know."""
    run = str(db.execute("SELECT name FROM run").fetchone()["name"])
    for pattern, answer in KINDS:
        if re.fullmatch(pattern, name):
            return answer(db, name, at, run)
    raise KeyError(
        f"{name!r} is no change (C63), task (T91), seat (agent-07), session (agent-07/12) or case (suite/name)"
    )


def _change(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    change = changes.get(db, name)
    judged = _about(db, ("judged",), "changes", name)
    card = _card(db, change, judged)
    reason, *detail = [visible(line) for line in change.reason.splitlines()] or [""]
    lost = tuple(_lost(case, change, card) for case in change.lost)
    before = changes.scorecard_of(db, change.base)
    gained = tuple(sorted(card.passed() - (before.passed() if before else frozenset()))) if card else ()
    facts = [
        Fact("task", (f"{change.task} {Narrator(db).title(change.task)}",)),
        Fact("submitted", (f"{clock(change.submitted)}, +{change.added} -{change.removed} on main {change.base[:7]}",)),
        Fact("summary", tuple(visible(line) for line in change.summary.splitlines() if line.strip())[:6]),
    ]
    for data in (entry.data for entry in judged[-1:]):
        tree, tier, seconds = visible(data["tree"])[:7], visible(data["tier"]), span(float(data["seconds"]))
        facts.append(Fact("judged", (f"tree {tree}, {tier} tier, {seconds}: {data['passed']}/{data['total']} pass",)))
    for one in lost[:HISTORY]:
        where = f"passes on {', '.join(one.passes_on)}; fails from {one.fails_from} on, {one.runs} runs of {one.runs}"
        facts.append(Fact("lost", (f"{one.case}: {where}", one.line)))
    facts += [Fact("detail", tuple(detail[:HISTORY]))] if detail and not lost else []
    facts += [Fact("gained", (f"{plural(len(gained), 'case')}: {some(gained)}",))] if gained else []
    facts.append(Fact("cost", (f"{money(_cost(db, change.session))} by {change.session} so far",)))
    facts.append(Fact("kept", (f"refs/changes/{change.id[1:]}",)))
    after = _next(db, change)
    return Why(
        run, at, name, "change", change.state.value, reason, lost, tuple(map(visible, gained)), after, tuple(facts)
    )


def _card(db: sqlite3.Connection, change: Change, judged: list[Entry]) -> Scorecard | None:
    """The judgement that decided a change: its landing's, or the last of the tree it bounced with."""
    tree = judged[-1].data["tree"] if judged else ""
    sql = "SELECT * FROM scorecard WHERE tree = ? AND tier = 'full' ORDER BY commit_id = ? DESC, id DESC LIMIT 1"
    row = db.execute(sql, (tree, change.landed_as)).fetchone()
    return changes.read_scorecard(db, row) if row else None


def _lost(case: str, change: Change, card: Scorecard | None) -> Lost:
    verdict = card.verdicts.get(case) if card else None
    line = f"ERROR {verdict.reason or verdict.outcome.name.lower()}" if verdict else "no verdict was stored"
    return Lost(visible(case), (f"main {change.base[:7]}",), change.id, 2, visible(line))


def _next(db: sqlite3.Connection, change: Change) -> str:
    session = _session_row(db, change.session)
    if change.state is ChangeState.LANDED:
        return f"on main as {change.landed_as[:7]}"
    if not change.state.terminal:
        return "the gate decides"
    if session.state is SessionState.ENDED:
        return f"{session.id} has ended ({session.end}); the task is on the board"
    return f"{change.seat} was told and works on it"


def _task(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    row = db.execute("SELECT * FROM task WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise KeyError(f"no task {name}")
    task: Task = record(Task, row)
    claim = db.execute("SELECT * FROM claim WHERE task = ?", (name,)).fetchone()
    reason = visible(task.reason)
    if claim:
        reason = f"{claim['session']} works on it since {clock(when(claim['since']))}"
    elif waits := [one for one in task.after if not _closed(db, one)]:
        reason = f"waits for {some(waits)}"
    notes = db.execute("SELECT * FROM note WHERE topic = ? ORDER BY at", (name,)).fetchall()
    told = {
        "title": [task.title],
        "from": [f"{task.source.value} {task.by}".strip()],
        "why": [task.why],
        "plan": [claim["plan"] if claim else ""],
        "cases": [f"{plural(len(task.cases), 'case')}: {some(task.cases)}" if task.cases else "none named"],
        "bounced": [f"{plural(task.bounces, 'time')}, given back {plural(task.releases, 'time')}"],
        "note": [f"{note['session']}: {line}" for note in notes for line in note["text"].splitlines()],
    }
    facts = [Fact(label, tuple(map(visible, lines))) for label, lines in told.items() if any(lines)]
    return Why(
        run, at, name, "task", task.state.value, reason, facts=(*facts, _history(db, _about(db, STEPS, "task", name)))
    )


def _closed(db: sqlite3.Connection, task: str) -> bool:
    row = db.execute("SELECT state FROM task WHERE id = ?", (task,)).fetchone()
    return row is not None and row["state"] == "closed"


def _session(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    session = _session_row(db, name)
    turns = db.execute("SELECT turns FROM session WHERE id = ?", (name,)).fetchone()["turns"]
    reason = visible(session.note) if session.ended else "goes on"
    facts = [
        Fact("who", (f"{session.role}, {visible(session.model)}, from main {session.base[:7]}",)),
        Fact("took", (f"{plural(turns, 'turn')}, {span(((session.ended or at) - session.started).total_seconds())}",)),
        Fact("cost", (money(_cost(db, name)),)),
        _history(db, [entry for entry in entries(db, seat=session.seat) if entry.data.get("session") == name]),
    ]
    return Why(run, at, name, "session", session.end or session.state.value, reason, facts=tuple(facts))


def _session_row(db: sqlite3.Connection, name: str) -> Session:
    row = db.execute("SELECT * FROM session WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise KeyError(f"no session {name}")
    return record(Session, row)


def _seat(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    seat = next((seat for seat in seats_of(db, at) if seat.seat == name), None)
    if seat is None:
        raise KeyError(f"no seat {name} has done anything yet")
    doing = f"{seat.task} {Narrator(db).title(seat.task)} in {seat.session}" if seat.session else "nothing"
    facts = (Fact("doing", (doing,)), _history(db, entries(db, seat=name, last=3 * HISTORY)))
    return Why(run, at, name, "seat", seat.state, seat.why, facts=facts)


def _case(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    """The case on every main: when it first passed and with which change it turned."""
    history, now, line, places = [], None, "", dict[str, dict[str, int]]()
    sql = """SELECT s.*, c.id AS change, c.session, c.ended AS turned FROM landing l JOIN change c ON c.id = l.change
        JOIN scorecard s ON s.id = l.scorecard WHERE l.done ORDER BY l.number"""
    for row in db.execute(sql):
        if row["cases"] not in places:
            places[row["cases"]] = {case: i for i, case in enumerate(json.loads(read_payload(db, row["cases"])))}
        if (place := places[row["cases"]].get(name)) is None:
            continue
        outcome = Outcome(row["outcomes"][place])
        if outcome is not now:
            history.append(f"{clock(when(row['turned']))}  {outcome.name.lower():<8} {row['change']} {row['session']}")
            now, line = outcome, changes.read_scorecard(db, row).verdicts[name].reason
    if now is None:
        raise KeyError(f"no landed main was judged on a case {name!r}, or it is not one that is shown")
    board = db.execute("SELECT id, cases FROM task WHERE state IN ('ready', 'claimed')").fetchall()
    on_it = some([row["id"] for row in board if name in json.loads(row["cases"])]) or "nobody"
    facts = (Fact("history", tuple(history[-HISTORY:])), Fact("on it", (on_it,)))
    return Why(run, at, name, "case", now.name.lower(), visible(line), facts=facts)


def _about(db: sqlite3.Connection, kinds: tuple[str, ...], key: str, value: str) -> list[Entry]:
    """Entries whose field `key` is, or holds, a value."""
    return [one for one in entries(db, kinds=kinds) if value in (one.data[key], *_listed(one.data[key]))]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _history(db: sqlite3.Connection, found: list[Entry]) -> Fact:
    told = [spoken(line, clock(entry.at)) for entry, line in Narrator(db).tell(found)]
    return Fact("history", tuple(told[-HISTORY:]))


def _cost(db: sqlite3.Connection, session: str) -> int | None:
    row = db.execute(f"SELECT sum({PRICE}) AS micro FROM attempt WHERE session = ?", (session,)).fetchone()
    micro: int | None = row["micro"]
    return micro


KINDS: Final[tuple[tuple[str, Answer], ...]] = (
    (r"C\d+", _change),
    (r"T\d+", _task),
    (r"agent-\d+/\d+", _session),
    (r"agent-\d+", _seat),
    (r"[^/]+/.+", _case),
)
