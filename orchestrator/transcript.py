"""A session's log over the store: what the turn loop of `agents/session.py` writes, and what a resume reads back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from agents.context import Transcript, Turn
from agents.models.base import Reply, ToolResult
from agents.session import Pending
from agents.tools import Answer, End
from orchestrator.records import CallState, Session
from orchestrator.store import Store, Tx, sessions


@dataclass
class StoredLog:
    """`agents.session.SessionLog`: each write is durable before the copy in memory, which is read back, changes."""

    _store: Store
    _session: Session
    transcript: Transcript = field(default_factory=lambda: Transcript(""))
    pending: Sequence[Pending] = ()
    _began: dict[str, float] = field(default_factory=dict)

    @classmethod
    async def load(cls, store: Store, session: Session) -> StoredLog:
        """The session as it is stored, whoever wrote it."""
        log = cls(store, session)
        await log._write(lambda _: None)
        return log

    async def _write(self, change: Callable[[Tx], object]) -> None:
        def write(tx: Tx) -> tuple[Transcript, list[Pending]]:
            change(tx)
            return stored(tx, self._session, self.transcript.turns[:-1])

        self.transcript, self.pending = await self._store.write(write)

    @property
    def turn(self) -> int:
        return len(self.transcript.turns)

    async def store_reply(self, reply: Reply) -> None:
        turn = self.turn + 1
        await self._write(lambda tx: sessions.store_reply(tx, self._session.id, turn, reply))

    async def store_summary(self, reply: Reply, text: str) -> None:
        await self._write(lambda tx: sessions.store_summary(tx, self._session.id, self.turn, text, reply))

    async def begin(self, pending: Pending) -> None:
        self._began[pending.key] = anyio.current_time()
        await self._write(lambda tx: sessions.begin_call(tx, pending.key))

    async def finish(self, pending: Pending, answer: Answer) -> None:
        seconds = anyio.current_time() - self._began.pop(pending.key, anyio.current_time())
        await self._write(lambda tx: sessions.finish_call(tx, pending.key, answer, seconds))

    async def hear(self) -> None:
        await self._write(lambda tx: sessions.deliver(tx, self._session.id, self.turn))


def stored(tx: Tx, session: Session, known: Sequence[Turn] = ()) -> tuple[Transcript, list[Pending]]:
    """A session's transcript, and the calls of its last turn that have no result yet. `known` are its first turns,
    where they have been read before: only the last one ever changes."""
    db = tx.db
    said = sessions.messages(db, session.id)
    turns, pending = list(known), list[Pending]()
    before = sum(len(turn.reply.calls) for turn in known)
    for number, reply in sessions.turns_of(db, session.id, len(known)):
        calls = list(zip(reply.calls, sessions.calls_of(db, session.id, number), strict=True))
        done = [(wanted, call) for wanted, call in calls if call.state is CallState.DONE]
        pending = [
            Pending(call.id, before + call.index, wanted, call.state is CallState.RUNNING)
            for wanted, call in calls
            if call.state is not CallState.DONE
        ]
        before += len(calls)
        results = tuple(ToolResult(wanted.id, call.result, call.failed) for wanted, call in done)
        ends = [End(call.end) for _, call in done if call.end]
        turns.append(Turn(reply, results, tuple(said.get(number, ())), ends[0] if ends else None))
    opening = tx.payload(session.opening).decode() if session.opening else ""
    return Transcript(opening, tuple(turns), tuple(said.get(0, ())), *sessions.summary(db, session.id)), pending
