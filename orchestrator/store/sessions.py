"""Sessions, turns, calls and messages in the state: the transcript, complete enough to continue it.

`StoredLog` is what the turn loop of `agents/session.py` writes; `stored` is what a resume reads back.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from agents.context import Transcript, Turn
from agents.models.base import Block, Opaque, Reply, Stop, Text, ToolCall, ToolResult, Usage
from agents.session import Pending
from agents.tools import Answer, End
from orchestrator.records import CallState, Session, SessionState
from orchestrator.store import rows
from orchestrator.store.store import Store, Tx, read_payload
from orchestrator.workspace import Sight

BRIEF: Final = 100  # characters of a call that the journal quotes
MOVES: Final = ("shell", "wait", "edit")  # calls after which the workspace may be another
UNSEEN: Final = Sight()
Look = Callable[[Answer], Awaitable[Sight]]
BLOCKS: Final[dict[str, type[Block]]] = {"text": Text, "opaque": Opaque, "call": ToolCall, "result": ToolResult}
"""Old transcripts always load: tags and fields are only ever added."""


def start(tx: Tx, session: Session) -> None:
    rows.insert(tx, session)
    facts = {"role": session.role, "model": session.model, "base": session.base}
    tx.journal("session-started", session.seat, session=session.id, **facts)


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
    """Stores a complete response and its calls before anything acts on it (P1). Storing it again changes nothing.

    A call's id is unique in the run and the same after a resume: the idempotency key of a verb.
    """
    if tx.one("SELECT 1 FROM turn WHERE session = ? AND number = ?", session, turn) is not None:
        return
    rows.put(tx, "turn", session=session, number=turn, at=tx.now, reply=tx.keep(encode_reply(reply)))
    rows.update(tx, "session", session, turns=turn)
    for index, call in enumerate(reply.calls):
        name = call.name.encode(errors="replace").decode()
        asked = {"name": name, "arguments": json.dumps(dict(call.arguments), sort_keys=True)}
        place = {"id": f"{session}.{turn}.{index}", "session": session, "turn": turn, "number": index}
        rows.put(tx, "call", vendor_id=call.id, state=CallState.PENDING, **asked, **place)


def encode_reply(reply: Reply) -> str:
    tags = {kind: tag for tag, kind in BLOCKS.items()}
    blocks = [{"type": tags[type(block)], **vars(block)} for block in reply.blocks]
    return json.dumps({**vars(reply), "blocks": blocks, "usage": vars(reply.usage)}, sort_keys=True, default=dict)


def decode_reply(text: str | bytes) -> Reply:
    body = json.loads(text)
    blocks = tuple(BLOCKS[block.pop("type")](**block) for block in body["blocks"])
    return Reply(blocks, Stop(body["stop"]), Usage(**body["usage"]), body["model"], body["raw_usage"])


def laid(tx: Tx, session: str, head: str) -> int:
    """A workspace was made; what it says it stands on is the session's base if that was ever main, and nothing has been
    done yet. Returns how many turns the session has had."""
    main = "EXISTS (SELECT 1 FROM landing WHERE new = ?1)"
    tx.run(f"UPDATE session SET base = ?1 WHERE id = ?2 AND turns = 0 AND {main}", head, session)
    return rows.get(tx.db, Session, session).turns


def begin_call(tx: Tx, call: str) -> None:
    """A call that is begun again after a crash keeps its place."""
    place = "main = ifnull(main, (SELECT count(*) FROM landing WHERE done)), began = ifnull(began, ?)"
    now = tx.one("SELECT max(seq) FROM journal")
    tx.run(f"UPDATE call SET state = ?, started = ?, {place} WHERE id = ?", CallState.RUNNING, tx.now, *now or (), call)


def finish_call(tx: Tx, call: str, answer: Answer, seconds: float = 0.0, sight: Sight = UNSEEN) -> None:
    """Stores a call's result, once: a second result for the same call changes nothing. `sight` is of the workspace
    after it."""
    (found,) = tx.db.execute(
        "SELECT call.*, seat FROM call JOIN session ON session.id = session WHERE call.id = ?", (call,)
    )
    if found["state"] == CallState.DONE:
        return
    kept = {"result": tx.keep(answer.text), "failed": answer.refused, "end": answer.end or ""}
    rows.update(tx, "call", call, state=CallState.DONE, seconds=seconds, **kept)
    given = [str(value).strip().partition("\n")[0][:BRIEF] for value in json.loads(found["arguments"]).values()]
    facts = {"brief": given[0] if given else "", "seconds": round(seconds, 2), "failed": answer.refused}
    asked = {"session": found["session"], "turn": found["turn"], "name": found["name"]}
    tx.journal("call", found["seat"], **asked, **facts)
    fetched = "max(main, ifnull((SELECT number FROM landing WHERE new = ?), 0))"
    sql = f"UPDATE call SET kind = ?, tree = ?, stamp = ?, main = {fetched}, ended = (SELECT max(seq) FROM journal)"
    tx.run(f"{sql} WHERE id = ?", answer.kind, sight.tree, sight.stamp, sight.fetched, call)


def say(tx: Tx, session: str, sender: str, text: str) -> None:
    """Leaves a message, `[sender] text`, that the session reads before its next request."""
    line = f"[{sender}] {text.removeprefix(f'[{sender}] ')}"
    rows.put(tx, "message", session=session, at=tx.now, sender=sender, text=line)


def stored(db: sqlite3.Connection, session: Session, known: Sequence[Turn] = ()) -> tuple[Transcript, list[Pending]]:
    """A session's transcript, and the calls of its last turn that have no result yet. `known` are its first turns,
    where they have been read before: only the last one ever changes."""
    id, turns, pending = session.id, list(known), list[Pending]()
    before = sum(len(turn.reply.calls) for turn in known)
    sql = "SELECT number, reply FROM turn WHERE session = ? AND number > ? ORDER BY number"
    for number, body in db.execute(sql, (id, len(known))):
        reply = decode_reply(read_payload(db, body))
        results, pending, end = list[ToolResult](), [], None
        calls = db.execute("SELECT * FROM call WHERE session = ? AND turn = ? ORDER BY number", (id, number))
        for place, (asked, row) in enumerate(zip(reply.calls, calls, strict=True), before):
            if row["state"] == CallState.DONE:
                answer = read_payload(db, row["result"]).decode()
                results.append(ToolResult(asked.id, answer, bool(row["failed"])))
                end = end or (End(row["end"]) if row["end"] else None)
            else:
                pending.append(Pending(row["id"], place, asked, row["state"] == CallState.RUNNING))
        before += len(reply.calls)
        turns.append(Turn(reply, tuple(results), _said(db, id, number), end))
    newest = "SELECT turns, text FROM summary WHERE session = ? ORDER BY turns DESC LIMIT 1"
    summed, summary = db.execute(newest, (id,)).fetchone() or (0, "")
    opening = read_payload(db, session.opening).decode() if session.opening else ""
    return Transcript(opening, tuple(turns), _said(db, id, 0), summed, summary), pending


def _said(db: sqlite3.Connection, session: str, turn: int) -> tuple[str, ...]:
    sql = "SELECT text FROM message WHERE session = ? AND turn = ? ORDER BY id"
    return tuple(row["text"] for row in db.execute(sql, (session, turn)))


async def unseen(answer: Answer) -> Sight:
    """Of no room's workspace."""
    return UNSEEN


@dataclass
class StoredLog:
    """`agents.session.SessionLog`: each write is durable before the copy in memory, which is read back, changes."""

    _store: Store
    _session: Session
    _look: Look
    transcript: Transcript = field(default_factory=lambda: Transcript(""))
    pending: Sequence[Pending] = ()
    _began: dict[str, float] = field(default_factory=dict)

    @classmethod
    async def load(cls, store: Store, session: Session, look: Look = unseen) -> "StoredLog":
        """The session as it is stored, whoever wrote it. `look` tells what a call has left in the workspace."""
        log = cls(store, session, look)
        await log._write(lambda _: None)
        return log

    async def _write(self, change: Callable[[Tx], object]) -> None:
        def write(tx: Tx) -> tuple[Transcript, list[Pending]]:
            change(tx)
            return stored(tx.db, self._session, self.transcript.turns[:-1])

        self.transcript, self.pending = await self._store.write(write)

    @property
    def turn(self) -> int:
        return len(self.transcript.turns)

    async def store_reply(self, reply: Reply) -> None:
        turn = self.turn + 1
        await self._write(lambda tx: store_reply(tx, self._session.id, turn, reply))

    async def store_summary(self, reply: Reply, text: str) -> None:
        sql = "INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)"
        await self._write(lambda tx: tx.run(sql, self._session.id, self.turn, text, tx.keep(encode_reply(reply))))

    async def begin(self, pending: Pending) -> None:
        self._began[pending.key] = anyio.current_time()
        await self._write(lambda tx: begin_call(tx, pending.key))

    async def finish(self, pending: Pending, answer: Answer) -> None:
        begun, now = pending.running or pending.key in self._began, anyio.current_time()
        seconds = now - self._began.pop(pending.key, now)
        sight = await self._look(answer) if begun and pending.call.name in MOVES else UNSEEN
        await self._write(lambda tx: finish_call(tx, pending.key, answer, seconds, sight))

    async def hear(self) -> None:
        """Pins what waits to be read behind the turn after which it is read; 0 is before the first reply."""
        sql = "UPDATE message SET turn = ? WHERE session = ? AND turn IS NULL"
        await self._write(lambda tx: tx.run(sql, self.turn, self._session.id))
