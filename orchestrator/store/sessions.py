"""Sessions, turns, calls and messages in the state: the transcript, complete enough to continue it."""

from __future__ import annotations

import dataclasses
import json
import sqlite3

from agents.models.base import Reply
from agents.team import Answer, End
from orchestrator.records import Call, CallState, Session, SessionState
from orchestrator.store.messages import decode_reply, encode_reply
from orchestrator.store.rows import insert, record, update
from orchestrator.store.store import Tx, iso, read_payload

BRIEF = 100  # characters of a call that the journal quotes


def start(tx: Tx, session: Session, token: str = "") -> None:
    insert(tx, "session", session, token=token)
    facts = {"role": session.role, "model": session.model, "base": session.base}
    tx.journal("session-started", session.seat, session=session.id, **facts)


def next_number(tx: Tx, seat: str) -> int:
    row = tx.one("SELECT coalesce(max(number), 0) + 1 AS next FROM session WHERE seat = ?", seat)
    assert row is not None
    return int(row["next"])


def get(db: sqlite3.Connection, session: str) -> Session:
    row = db.execute("SELECT * FROM session WHERE id = ?", (session,)).fetchone()
    if row is None:
        raise KeyError(f"no session {session}")
    return record(Session, row)


def live(db: sqlite3.Connection) -> list[Session]:
    rows = db.execute("SELECT * FROM session WHERE state <> 'ended' ORDER BY started")
    return [record(Session, row) for row in rows]


def end(tx: Tx, session: str, reason: End, note: str = "") -> None:
    """Ends a live session; an ended one stays as it is."""
    row = tx.one("SELECT seat, turns, state FROM session WHERE id = ?", session)
    if row is None or row["state"] == SessionState.ENDED:
        return
    update(tx, "session", session, state=SessionState.ENDED, ended=tx.now, end=reason, note=note)
    tx.journal("session-ended", row["seat"], session=session, end=reason.value, note=note, turns=row["turns"])


def store_reply(tx: Tx, session: str, turn: int, reply: Reply) -> None:
    """Stores a complete response and its calls before anything acts on it (P1). Storing it again changes nothing."""
    if tx.one("SELECT 1 FROM turn WHERE session = ? AND number = ?", session, turn) is not None:
        return
    body = tx.keep(encode_reply(reply))
    tx.run("INSERT INTO turn (session, number, at, reply) VALUES (?, ?, ?, ?)", session, turn, iso(tx.now), body)
    tx.run("UPDATE session SET turns = ? WHERE id = ?", turn, session)
    for index, call in enumerate(reply.calls):
        arguments = json.dumps(dict(call.arguments), sort_keys=True)
        item = Call(call_id(session, turn, index), session, turn, index, call.name, arguments, CallState.PENDING)
        insert(tx, "call", item, vendor_id=call.id)


def call_id(session: str, turn: int, index: int) -> str:
    """Unique in the run, the same after a resume: the idempotency key of a verb."""
    return f"{session}.{turn}.{index}"


def get_call(db: sqlite3.Connection, call: str) -> Call | None:
    row = db.execute("SELECT * FROM call WHERE id = ?", (call,)).fetchone()
    return None if row is None else _call(db, row)


def begin_call(tx: Tx, call: str) -> None:
    update(tx, "call", call, state=CallState.RUNNING, started=tx.now)


def finish_call(tx: Tx, call: str, answer: Answer, seconds: float = 0.0) -> None:
    """Stores a call's result, once: a second result for the same call changes nothing."""
    row = tx.one("SELECT c.*, s.seat FROM call c JOIN session s ON s.id = c.session WHERE c.id = ?", call)
    if row is None:
        raise KeyError(f"no call {call}")
    if row["state"] == CallState.DONE:
        return
    kept = {"result": tx.keep(answer.text), "failed": answer.refused, "end": answer.end or ""}
    update(tx, "call", call, state=CallState.DONE, seconds=seconds, **kept)
    facts = {
        "name": row["name"],
        "brief": _brief(row["arguments"]),
        "seconds": round(seconds, 2),
        "failed": answer.refused,
    }
    tx.journal("call", row["seat"], session=row["session"], turn=row["turn"], **facts)


def _brief(arguments: str) -> str:
    """The first argument's first line, for one line of a log."""
    values = [str(value) for value in json.loads(arguments).values()]
    line = values[0].strip().split("\n", 1)[0] if values else ""
    return line[:BRIEF]


def calls_of(db: sqlite3.Connection, session: str, turn: int) -> list[Call]:
    sql = "SELECT * FROM call WHERE session = ? AND turn = ? ORDER BY number"
    return [_call(db, row) for row in db.execute(sql, (session, turn))]


def _call(db: sqlite3.Connection, row: sqlite3.Row) -> Call:
    item = record(Call, row)
    if item.state is not CallState.DONE:
        return item
    return dataclasses.replace(item, result=read_payload(db, item.result).decode())


def turns_of(db: sqlite3.Connection, session: str) -> list[tuple[int, Reply]]:
    rows = db.execute("SELECT number, reply FROM turn WHERE session = ? ORDER BY number", (session,)).fetchall()
    return [(row["number"], decode_reply(read_payload(db, row["reply"]))) for row in rows]


def store_summary(tx: Tx, session: str, turns: int, text: str, reply: Reply) -> None:
    """`text` takes the place of the first `turns` turns in requests."""
    body = tx.keep(encode_reply(reply))
    tx.run("INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)", session, turns, text, body)


def summaries(db: sqlite3.Connection, session: str) -> list[tuple[int, str]]:
    rows = db.execute("SELECT turns, text FROM summary WHERE session = ? ORDER BY turns", (session,))
    return [(row["turns"], row["text"]) for row in rows]


def say(tx: Tx, session: str, sender: str, text: str) -> None:
    """Leaves a message, `[sender] text`, that the session reads before its next request."""
    line = f"[{sender}] {text.removeprefix(f'[{sender}] ')}"
    tx.run("INSERT INTO message (session, at, sender, text) VALUES (?, ?, ?, ?)", session, iso(tx.now), sender, line)


def deliver(tx: Tx, session: str, turn: int) -> list[str]:
    """Pins what waits to be read behind the turn after which it is read, and returns it."""
    rows = tx.all("SELECT text FROM message WHERE session = ? AND turn IS NULL ORDER BY id", session)
    tx.run("UPDATE message SET turn = ? WHERE session = ? AND turn IS NULL", turn, session)
    return [row["text"] for row in rows]


def messages(db: sqlite3.Connection, session: str) -> dict[int, list[str]]:
    """Delivered messages by the turn after which they were read; 0 is before the first reply."""
    read: dict[int, list[str]] = {}
    sql = "SELECT turn, text FROM message WHERE session = ? AND turn IS NOT NULL ORDER BY id"
    for row in db.execute(sql, (session,)):
        read.setdefault(row["turn"], []).append(row["text"])
    return read
