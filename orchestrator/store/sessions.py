"""Sessions, turns, calls and messages in the state: the transcript, complete enough to continue it.

`StoredLog` is what the turn loop of `agents/session.py` writes; `stored` is what a resume reads back.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from agents.context import Transcript, Turn
from agents.models.base import Block, Opaque, Reply, Stop, Text, ToolCall, ToolResult, Usage
from agents.session import Pending
from agents.tools import Answer, End
from orchestrator.records import CallState, Session, SessionState
from orchestrator.store import rows
from orchestrator.store.store import Store, Tx, read_payload
from orchestrator.workspace import Sight
from sandbox import faults

BRIEF: Final = 100  # characters of a call that the journal quotes
AT_ONCE: Final = ("claim", "release", "note", "plan")  # verbs that begin in the transaction of their effect and answer
MOVES: Final = ("shell", "wait", "edit")  # calls after which the workspace may be another
UNSEEN: Final = Sight()
RESTED: Final = "Your sandbox was closed meanwhile: /workspace is as you left it; jobs and files elsewhere are gone."
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


def store_reply(tx: Tx, session: str, turn: int, reply: Reply) -> Reply:
    """Stores a complete response and its calls before anything acts on it (P1). Storing it again changes nothing.

    A call's id is unique in the run and the same after a resume: the idempotency key of a verb. Returns the reply as it
    is read back, so that requests are the same after a resume.
    """
    text = encode_reply(reply)
    if tx.one("SELECT 1 FROM turn WHERE session = ? AND number = ?", session, turn) is not None:
        return decode_reply(text)
    rows.put(tx, "turn", session=session, number=turn, at=tx.now, reply=tx.keep(text))
    rows.update(tx, "session", session, turns=turn)
    for index, call in enumerate(reply.calls):
        name = call.name.encode(errors="replace").decode()
        asked = {"name": name, "arguments": json.dumps(dict(call.arguments), sort_keys=True)}
        place = {"id": _call_id(session, turn, index), "session": session, "turn": turn, "number": index}
        rows.put(tx, "call", vendor_id=call.id, state=CallState.PENDING, **asked, **place)
    return decode_reply(text)


def _call_id(session: str, turn: int, index: int) -> str:
    return f"{session}.{turn}.{index}"


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
    """A call that is begun again after a crash keeps its place; one that is done stays so."""
    place = "main = ifnull(main, (SELECT count(*) FROM landing WHERE done)), began = ifnull(began, ?)"
    now = tx.one("SELECT max(seq) FROM journal")
    sql = f"UPDATE call SET state = ?, started = ?, {place} WHERE id = ? AND state <> 'done'"
    tx.run(sql, CallState.RUNNING, tx.now, *now or (), call)


def finish_call(tx: Tx, call: str, answer: Answer, seconds: float = 0.0, sight: Sight = UNSEEN) -> Answer:
    """Stores a call's result, once: a second result for the same call changes nothing. `sight` is of the workspace
    after it. Returns the stored result."""
    (found,) = tx.db.execute(
        "SELECT call.*, seat FROM call JOIN session ON session.id = session WHERE call.id = ?", (call,)
    )
    if found["state"] == CallState.DONE:
        return _answer(tx.db, found)
    given = [str(value).strip().partition("\n")[0][:BRIEF] for value in json.loads(found["arguments"]).values()]
    facts = {"brief": given[0] if given else "", "seconds": round(seconds, 2), "failed": answer.refused}
    asked = {"session": found["session"], "turn": found["turn"], "name": found["name"]}
    tx.journal("call", found["seat"], **asked, **facts)
    fetched = "max(main, ifnull((SELECT number FROM landing WHERE new = ?), 0))"
    kept = {"result": tx.keep(answer.text), "failed": answer.refused, "end": answer.end or "", "kind": answer.kind}
    kept |= {"state": CallState.DONE, "seconds": seconds, "tree": sight.tree, "stamp": sight.stamp}
    sql = f"UPDATE call SET {' = ?, '.join(kept)} = ?, main = {fetched}, ended = (SELECT max(seq) FROM journal)"
    tx.run(f"{sql} WHERE id = ?", *kept.values(), sight.fetched, call)
    return answer


def _answer(db: sqlite3.Connection, call: sqlite3.Row) -> Answer:
    text = read_payload(db, call["result"]).decode()
    return Answer(text, bool(call["failed"]), End(call["end"]) if call["end"] else None)


def say(tx: Tx, session: str, sender: str, text: str) -> None:
    """Leaves a message, `[sender] text`, that the session reads before its next request."""
    line = f"[{sender}] {text.removeprefix(f'[{sender}] ')}"
    rows.put(tx, "message", session=session, at=tx.now, sender=sender, text=line)
    tx.told.add(session)


def stored(db: sqlite3.Connection, session: Session) -> tuple[Transcript, list[Pending]]:
    """A session's transcript, and the calls of its last turn that have no result yet."""
    id, turns, pending, before = session.id, list[Turn](), list[Pending](), 0
    for number, body in db.execute("SELECT number, reply FROM turn WHERE session = ? ORDER BY number", (id,)):
        reply = decode_reply(read_payload(db, body))
        results, pending, end = list[ToolResult](), [], None
        calls = db.execute("SELECT * FROM call WHERE session = ? AND turn = ? ORDER BY number", (id, number))
        for place, (asked, row) in enumerate(zip(reply.calls, calls, strict=True), before):
            if row["state"] == CallState.DONE:
                answer = _answer(db, row)
                results.append(ToolResult(asked.id, answer.text, answer.refused))
                end = end or answer.end
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
    """`agents.session.SessionLog`: each write is durable before the copy in memory changes, and that copy is what a
    resume would read back."""

    _store: Store
    _session: Session
    transcript: Transcript
    pending: Sequence[Pending]
    _calls: int  # in all turns
    _look: Look
    _paid: tuple[Reply, Reply] | None = None  # stored by the ledger's transaction: as it came, and as it is read back
    _began: dict[str, float] = field(default_factory=dict)

    @classmethod
    async def load(cls, store: Store, session: Session, look: Look = unseen) -> "StoredLog":
        """The session as it is stored, whoever wrote it. `look` tells what a call has left in the workspace."""
        transcript, pending = await store.write(lambda tx: stored(tx.db, session))
        store.told.add(session.id)  # perhaps, by an earlier process
        return cls(store, session, transcript, pending, sum(len(turn.reply.calls) for turn in transcript.turns), look)

    @property
    def turn(self) -> int:
        return len(self.transcript.turns)

    def last_seen(self, db: sqlite3.Connection) -> sqlite3.Row | None:
        """Id, kind, tree and stamp of the newest call after which the workspace was looked at."""
        sql = "SELECT id, kind, tree, stamp FROM call WHERE session = ? AND stamp <> '' ORDER BY turn DESC, number DESC"
        return next(db.execute(sql, (self._session.id,)), None)

    def paid(self, tx: Tx, reply: Reply) -> None:
        """Stores a reply with what it cost. `store_reply` of it then only has to be called."""
        self._paid = reply, store_reply(tx, self._session.id, self.turn + 1, reply)

    async def store_reply(self, reply: Reply) -> None:
        id, turn = self._session.id, self.turn + 1
        if self._paid and self._paid[0] is reply:
            kept = self._paid[1]
        else:
            kept = await self._store.write(lambda tx: store_reply(tx, id, turn, reply))
        faults.at("reply-stored")
        self.pending = [Pending(_call_id(id, turn, n), self._calls + n, call) for n, call in enumerate(kept.calls)]
        self._calls += len(self.pending)
        self.transcript = replace(self.transcript, turns=(*self.transcript.turns, Turn(kept)))

    async def store_summary(self, reply: Reply, text: str) -> None:
        sql, turn = "INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)", self.turn
        await self._store.write(lambda tx: tx.run(sql, self._session.id, turn, text, tx.keep(encode_reply(reply))))
        self.transcript = replace(self.transcript, summed=turn, summary=text)

    async def begin(self, pending: Pending) -> None:
        self._began[pending.key] = anyio.current_time()
        if pending.call.name in AT_ONCE:
            return
        await self._store.write(lambda tx: begin_call(tx, pending.key))
        faults.at("call-begun")
        self.pending = [replace(one, running=one.running or one.key == pending.key) for one in self.pending]

    async def finish(self, pending: Pending, answer: Answer) -> None:
        begun, now = pending.running or pending.key in self._began, anyio.current_time()
        seconds = now - self._began.pop(pending.key, now)
        sight = await self._look(answer) if begun and pending.call.name in MOVES else UNSEEN

        def work(tx: Tx) -> Answer:
            if begun and pending.call.name in AT_ONCE:
                begin_call(tx, pending.key)
            return finish_call(tx, pending.key, answer, seconds, sight)

        kept = answer if answer.stored else await self._store.write(work)
        faults.at("call-stored")
        self.pending = [one for one in self.pending if one.key != pending.key]
        last = self.transcript.turns[-1]
        results = (*last.results, ToolResult(pending.call.id, kept.text, kept.refused))
        self._change_last(results=results, end=last.end or kept.end)

    async def hear(self) -> None:
        """Pins what waits to be read behind the turn after which it is read; 0 is before the first reply."""
        id, turn = self._session.id, self.turn
        if id not in self._store.told:
            return
        self._store.told.discard(id)  # before the look: what is said after it is heard the next time

        def pin(tx: Tx) -> tuple[str, ...]:
            tx.run("UPDATE message SET turn = ? WHERE session = ? AND turn IS NULL", turn, id)
            return _said(tx.db, id, turn)

        said = await self._store.write(pin)
        if turn:
            self._change_last(said=said)
        else:
            self.transcript = replace(self.transcript, said=said)

    def _change_last(self, **fields: Any) -> None:
        *before, last = self.transcript.turns
        self.transcript = replace(self.transcript, turns=(*before, replace(last, **fields)))
