"""Writes `state-vN.sql`: a small run as today's code stores it, N being today's schema.

    python -m tests.golden.make

Run it once, when a schema is new; a file of a released schema is never written again.
"""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from agents.models.base import Message, Reply, Request, Role, Stop, Text, ToolCall, Usage
from agents.models.scripted import Price
from agents.tools import Answer, End
from orchestrator import board, excused
from orchestrator.ledger import Ledger, Ruler
from orchestrator.prices import Prices
from orchestrator.records import Change, ChangeState, Regression, Session, SessionState, TaskSource
from orchestrator.store import Tx, changes, rows, sessions
from orchestrator.store.store import MIGRATIONS, migrate
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW: Final = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
MODEL: Final = "scripted:team.toml"


def fill(tx: Tx) -> None:
    """One of everything."""
    tx.run(
        "INSERT INTO run (one, name, epoch, state, created, settings) VALUES (1, 'golden', 1, 'running', ?, '{}')", ""
    )
    facts = {"project": "hello", "lock": "0" * 64, "agents": 2, "models": [MODEL], "by": "person"}
    tx.journal("run-started", name="golden", **facts)
    for seat in ("agent-01", "agent-02"):
        opening = tx.keep("You are a builder.")
        made = Session(f"{seat}/1", seat, 1, "builder", MODEL, SessionState.ACTIVE, NOW, "base", opening=opening)
        sessions.start(tx, replace(made, token=f"token of {seat}"))
    first = board.add_task(
        tx, "lexer", TaskSource.PROJECT, by="project", why="first", cases=["torture/a"], touches=["src"]
    )
    rows.update(tx, "task", first.id, order=1.5)
    board.add_task(tx, "parser", TaskSource.PLANNER, by="agent-02/1", cases=["torture/b*"], after=[first.id])
    group = {"cases": ("torture/c",), "signature": "torture|exit 134"}
    board.put(tx, "torture/c: exit 134", TaskSource.CASES, by="run", **group)
    board.claim(tx, first.id, "agent-01/1", "read, then write")
    board.leave_note(tx, "agent-01/1", first.id, "look at the table")
    books = Ledger(Prices({MODEL: Price(input=Decimal(3), output=Decimal(15))}), 10_000_000)
    request = Ruler().size(Request("system", (), (Message(Role.USER, (Text("go"),)),)))
    attempt = books.reserve(tx, "agent-01/1", 1, MODEL, request, 100)
    usage = Usage(input=1000, output=100)
    books.settle(tx, attempt, usage, MODEL)
    books.doubt(tx, books.reserve(tx, "agent-01/1", 2, MODEL, request, 100), "stream cut")
    call = ToolCall("call_1", "shell", {"command": "make"})
    sessions.store_reply(tx, "agent-01/1", 1, Reply((Text("I will."), call), Stop.TOOLS, usage, MODEL))
    rows.update(tx, "call", "agent-01/1.1.0", started=tx.now)
    sessions.finish_call(tx, "agent-01/1.1.0", Answer("exit 0"), 1.5)
    sessions.say(tx, "agent-01/1", "person", "Prefer small steps.")
    tx.run("UPDATE message SET turn = 1")
    change = Change("C1", "agent-01/1", "agent-01", "T1", ChangeState.QUEUED, NOW, "b0", "c1", "t1", "agent-01/1.2.0")
    changes.add(tx, change)
    verdicts = {
        "torture/a": Verdict("torture/a", Outcome.PASS),
        "torture/c": Verdict("torture/c", Outcome.FAIL, 0.1, "exit 134"),
    }
    card = changes.add_scorecard(tx, Scorecard("t1", "full", Build(True, 1.0), verdicts), commit="m1")
    changes.intend(tx, "C1", "b0", "m1", card)
    excused.quarantine(tx, {"torture/c": "passed and failed on main m1, 2 of 3 runs"})
    excused.waive(tx, ["torture/a"], "the table is rewritten", NOW + timedelta(days=2), "person")
    rows.insert(tx, Regression("torture/c", 0, 1, 1, "T3", None), at=NOW, line="ERROR torture/c: exit 134", landings=1)
    sessions.end(tx, "agent-02/1", End.FINISHED, "nothing left")


def dump() -> str:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    fill(Tx(db, 1, NOW))
    return "\n".join(db.iterdump()) + f"\nPRAGMA user_version = {len(MIGRATIONS)};\n"


if __name__ == "__main__":
    path = Path(__file__).with_name(f"state-v{len(MIGRATIONS)}.sql")
    path.write_text(dump())
    sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
