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
from orchestrator.watch.queries import seats_of
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
    judged = _about(db, "judged", "changes", name)
    card = _card(db, change)
    lost = tuple(_lost(case, change, card) for case in change.lost)
    gained = _gained(db, change, judged[-1] if judged else None, card)
    facts = [Fact("task", (f"{change.task} {Narrator(db).title(change.task)}",))]
    facts.append(
        Fact("submitted", (f"{clock(change.submitted)}, +{change.added} -{change.removed} on main {change.base[:7]}",))
    )
    if change.summary:
        facts.append(Fact("summary", tuple(visible(line) for line in change.summary.splitlines()[:6])))
    if judged:
        data = judged[-1].data
        words = f"tree {visible(data['tree'])[:7]}, {visible(data['tier'])} tier, {span(float(data['seconds'] or 0))}"
        facts.append(Fact("judged", (words,)))
    for one in lost[:HISTORY]:
        facts.append(
            Fact(
                "lost", (f"{one.case}: passes on {', '.join(one.passes_on)}; fails from {one.fails_from} on", one.line)
            )
        )
    if gained:
        facts.append(Fact("gained", (f"{plural(len(gained), 'case')}: {some(gained)}",)))
    facts.append(Fact("cost", (money(_cost(db, change.session)) + f" by {change.session} so far",)))
    facts.append(Fact("kept", (f"refs/changes/{change.id[1:]}",)))
    return Why(
        run,
        at,
        name,
        "change",
        change.state.value,
        visible(change.reason),
        lost,
        gained,
        _next(db, change),
        tuple(facts),
    )


def _card(db: sqlite3.Connection, change: Change) -> Scorecard | None:
    """The judgement that decided a change: its landing's, or the last of its bounced tree."""
    row = db.execute(
        "SELECT s.* FROM scorecard s JOIN landing l ON l.scorecard = s.id WHERE l.change = ?", (change.id,)
    ).fetchone()
    judged = _about(db, "judged", "changes", change.id)
    if row is None and judged:
        sql = "SELECT * FROM scorecard WHERE tree = ? AND tier = 'full' ORDER BY id DESC LIMIT 1"
        row = db.execute(sql, (judged[-1].data["tree"],)).fetchone()
    return changes.read_scorecard(db, row) if row else None


def _lost(case: str, change: Change, card: Scorecard | None) -> Lost:
    verdict = card.verdicts.get(case) if card else None
    line = f"ERROR {verdict.reason or verdict.outcome.name.lower()}" if verdict else "no verdict was stored"
    return Lost(visible(case), (f"main {change.base[:7]}",), change.id, 2, visible(line))


def _gained(db: sqlite3.Connection, change: Change, judged: Entry | None, card: Scorecard | None) -> tuple[str, ...]:
    """What passes with the change and not on the main before it."""
    stored = judged.data["gained"] if judged else None
    if isinstance(stored, list):
        return tuple(visible(case) for case in stored)
    row = db.execute("SELECT old FROM landing WHERE change = ?", (change.id,)).fetchone()
    before = changes.scorecard_of(db, row["old"] if row else change.base)
    return tuple(sorted(card.passed() - (before.passed() if before else frozenset()))) if card else ()


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
    facts = [Fact("title", (visible(task.title),)), Fact("from", (f"{task.source.value} {visible(task.by)}".strip(),))]
    facts += [
        Fact(label, (visible(text),))
        for label, text in (("why", task.why), ("plan", claim["plan"] if claim else ""))
        if text
    ]
    facts.append(
        Fact("cases", (f"{plural(len(task.cases), 'case')}: {some(task.cases)}" if task.cases else "none named",))
    )
    facts.append(Fact("bounced", (plural(task.bounces, "time") + f", given back {plural(task.releases, 'time')}",)))
    for note in db.execute("SELECT * FROM note WHERE topic = ? ORDER BY at", (name,)):
        facts.append(
            Fact("note", tuple(visible(f"{note['session']}: {line}") for line in note["text"].splitlines()[:5]))
        )
    kinds = (
        "task-added",
        "claimed",
        "released",
        "submitted",
        "landed",
        "bounced",
        "task-closed",
        "task-dropped",
        "task-reopened",
    )
    facts.append(_history(db, _about(db, kinds, "task", name)))
    return Why(run, at, name, "task", task.state.value, reason, facts=tuple(facts))


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
    facts = (Fact("doing", (doing,)), _history(db, entries(db, seat=name, last=HISTORY)))
    return Why(run, at, name, "seat", seat.state, seat.why, facts=facts)


def _case(db: sqlite3.Connection, name: str, at: datetime, run: str) -> Why:
    """The case on every main: when it first passed and with which change it turned."""
    history, now, line, places = [], None, "", dict[str, dict[str, int]]()
    sql = "SELECT s.*, l.change, l.at AS landed_at FROM landing l JOIN scorecard s ON s.id = l.scorecard WHERE l.done ORDER BY l.number"
    for row in db.execute(sql):
        if row["cases"] not in places:
            places[row["cases"]] = {case: i for i, case in enumerate(json.loads(read_payload(db, row["cases"])))}
        place = places[row["cases"]].get(name)
        if place is None:
            continue
        outcome = Outcome(row["outcomes"][place])
        if outcome is not now:
            change = changes.get(db, row["change"])
            history.append(f"{clock(when(row['landed_at']))}  {outcome.name.lower():<8} {change.id} {change.session}")
            line = changes.read_scorecard(db, row).verdicts[name].reason
        now = outcome
    if now is None:
        raise KeyError(f"no landed main was judged on a case {name!r}, or it is not one that is shown")
    found = [
        row["id"]
        for row in db.execute("SELECT id, cases FROM task WHERE state IN ('ready', 'claimed')")
        if name in json.loads(row["cases"])
    ]
    facts = (Fact("history", tuple(history[-HISTORY:])), Fact("on it", (some(found) or "nobody",)))
    return Why(run, at, name, "case", now.name.lower(), visible(line), facts=facts)


def _about(db: sqlite3.Connection, kinds: str | tuple[str, ...], key: str, value: str) -> list[Entry]:
    """Entries whose field `key` is, or holds, a value."""
    found = entries(db, kinds=(kinds,) if isinstance(kinds, str) else kinds)
    return [
        one
        for one in found
        if one.data.get(key) == value or (isinstance(one.data.get(key), list) and value in one.data[key])
    ]


def _history(db: sqlite3.Connection, found: list[Entry]) -> Fact:
    narrator = Narrator(db)
    return Fact("history", tuple(spoken(narrator.line(entry), clock(entry.at)) for entry in found[-HISTORY:]))


def _cost(db: sqlite3.Connection, session: str) -> int | None:
    sql = "SELECT sum(CASE WHEN state = 'in-doubt' THEN reserved ELSE cost END) AS micro FROM attempt WHERE session = ?"
    micro: int | None = db.execute(sql, (session,)).fetchone()["micro"]
    return micro


KINDS: Final[tuple[tuple[str, Answer], ...]] = (
    (r"C\d+", _change),
    (r"T\d+", _task),
    (r"agent-\d+/\d+", _session),
    (r"agent-\d+", _seat),
    (r"[^/]+/.+", _case),
)
