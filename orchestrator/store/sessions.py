"""Sessions, turns, calls and messages in the state: the transcript, complete enough to continue it."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from typing import Final

from agents.models.base import Block, Opaque, Reply, Stop, Text, ToolCall, ToolResult, Usage
from agents.team import Answer, End
from orchestrator.records import Call, CallState, Session, SessionState
from orchestrator.store import rows
from orchestrator.store.store import Tx, read_payload

BRIEF: Final = 100  # characters of a call that the journal quotes
BLOCKS: Final[dict[str, type[Block]]] = {"text": Text, "opaque": Opaque, "call": ToolCall, "result": ToolResult}
"""Old transcripts always load: tags and fields are only ever added."""


def start(tx: Tx, session: Session, token: str = "") -> None:
    rows.insert(tx, "session", session, token=token)
    facts = {"role": session.role, "model": session.model, "base": session.base}
    tx.journal("session-started", session.seat, session=session.id, **facts)


def next_number(tx: Tx, seat: str) -> int:
    return rows.next_number(tx, "session", "WHERE seat = ?", seat)


def get(db: sqlite3.Connection, session: str) -> Session:
    return rows.get(db, Session, session)


def live(db: sqlite3.Connection) -> list[Session]:
    return rows.find(db, Session, "WHERE state <> 'ended' ORDER BY started")


def end(tx: Tx, session: str, reason: End, note: str = "") -> None:
    """Ends a live session; an ended one stays as it is."""
    found = rows.first(tx.db, Session, "WHERE id = ? AND state <> 'ended'", session)
    if found is not None:
        rows.update(tx, "session", session, state=SessionState.ENDED, ended=tx.now, end=reason, note=note)
        facts = {"end": reason.value, "note": note, "turns": found.turns}
        tx.journal("session-ended", found.seat, session=session, **facts)


def store_reply(tx: Tx, session: str, turn: int, reply: Reply) -> None:
    """Stores a complete response and its calls before anything acts on it (P1). Storing it again changes nothing."""
    if tx.one("SELECT 1 FROM turn WHERE session = ? AND number = ?", session, turn) is not None:
        return
    rows.put(tx, "turn", session=session, number=turn, at=tx.now, reply=tx.keep(encode_reply(reply)))
    rows.update(tx, "session", session, turns=turn)
    for index, call in enumerate(reply.calls):
        arguments = json.dumps(dict(call.arguments), sort_keys=True)
        item = Call(call_id(session, turn, index), session, turn, index, call.name, arguments, CallState.PENDING)
        rows.insert(tx, "call", item, vendor_id=call.id)


def encode_reply(reply: Reply) -> str:
    tags = {kind: tag for tag, kind in BLOCKS.items()}
    blocks = [{"type": tags[type(block)], **vars(block)} for block in reply.blocks]
    return json.dumps({**vars(reply), "blocks": blocks, "usage": vars(reply.usage)}, sort_keys=True, default=dict)


def decode_reply(text: str | bytes) -> Reply:
    body = json.loads(text)
    blocks = tuple(BLOCKS[block.pop("type")](**block) for block in body["blocks"])
    return Reply(blocks, Stop(body["stop"]), Usage(**body["usage"]), body["model"], body["raw_usage"])


def call_id(session: str, turn: int, index: int) -> str:
    """Unique in the run, the same after a resume: the idempotency key of a verb."""
    return f"{session}.{turn}.{index}"


def begin_call(tx: Tx, call: str) -> None:
    rows.update(tx, "call", call, state=CallState.RUNNING, started=tx.now)


def finish_call(tx: Tx, call: str, answer: Answer, seconds: float = 0.0) -> None:
    """Stores a call's result, once: a second result for the same call changes nothing."""
    found = rows.get(tx.db, Call, call)
    if found.state is CallState.DONE:
        return
    kept = {"result": tx.keep(answer.text), "failed": answer.refused, "end": answer.end or ""}
    rows.update(tx, "call", call, state=CallState.DONE, seconds=seconds, **kept)
    given = [str(value).strip().partition("\n")[0][:BRIEF] for value in json.loads(found.arguments).values()]
    facts = {"brief": given[0] if given else "", "seconds": round(seconds, 2), "failed": answer.refused}
    seat = get(tx.db, found.session).seat
    tx.journal("call", seat, session=found.session, turn=found.turn, name=found.name, **facts)


def calls_of(db: sqlite3.Connection, session: str, turn: int) -> list[Call]:
    found = rows.find(db, Call, "WHERE session = ? AND turn = ? ORDER BY number", session, turn)
    return [_whole(db, call) for call in found]


def _whole(db: sqlite3.Connection, call: Call) -> Call:
    """The call with its result's text, which its row names by hash."""
    return dataclasses.replace(call, result=read_payload(db, call.result).decode()) if call.result else call


def turns_of(db: sqlite3.Connection, session: str, after: int = 0) -> list[tuple[int, Reply]]:
    sql = "SELECT number, reply FROM turn WHERE session = ? AND number > ? ORDER BY number"
    turns = db.execute(sql, (session, after)).fetchall()
    return [(row["number"], decode_reply(read_payload(db, row["reply"]))) for row in turns]


def store_summary(tx: Tx, session: str, turns: int, text: str, reply: Reply) -> None:
    """`text` takes the place of the first `turns` turns in requests."""
    body = tx.keep(encode_reply(reply))
    tx.run("INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)", session, turns, text, body)


def summaries(db: sqlite3.Connection, session: str) -> list[tuple[int, str]]:
    found = db.execute("SELECT turns, text FROM summary WHERE session = ? ORDER BY turns", (session,))
    return [(row["turns"], row["text"]) for row in found]


def say(tx: Tx, session: str, sender: str, text: str) -> None:
    """Leaves a message, `[sender] text`, that the session reads before its next request."""
    line = f"[{sender}] {text.removeprefix(f'[{sender}] ')}"
    rows.put(tx, "message", session=session, at=tx.now, sender=sender, text=line)


def deliver(tx: Tx, session: str, turn: int) -> list[str]:
    """Pins what waits to be read behind the turn after which it is read, and returns it."""
    waiting = tx.all("SELECT text FROM message WHERE session = ? AND turn IS NULL ORDER BY id", session)
    tx.run("UPDATE message SET turn = ? WHERE session = ? AND turn IS NULL", turn, session)
    return [row["text"] for row in waiting]


def messages(db: sqlite3.Connection, session: str) -> dict[int, list[str]]:
    """Delivered messages by the turn after which they were read; 0 is before the first reply."""
    read: dict[int, list[str]] = {}
    sql = "SELECT turn, text FROM message WHERE session = ? AND turn IS NOT NULL ORDER BY id"
    for row in db.execute(sql, (session,)):
        read.setdefault(row["turn"], []).append(row["text"])
    return read
