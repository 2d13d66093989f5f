"""A session's log over the store: what the turn loop of `agents/session.py` writes, and what a resume reads back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from agents.context import Summary, Transcript, Turn
from agents.models.base import Reply, ToolResult
from agents.session import Pending
from agents.team import Answer, End
from orchestrator.records import CallState, Session
from orchestrator.store import Store, Tx, sessions


@dataclass
class StoredLog:
    """`agents.session.SessionLog`: each write is durable before the copy in memory changes."""

    _store: Store
    _session: str
    _transcript: Transcript
    _calls: int  # of all turns
    _pending: list[Pending]
    _began: dict[str, float] = field(default_factory=dict)

    @classmethod
    async def load(cls, store: Store, session: Session) -> StoredLog:
        """The session as it is stored, whoever wrote it."""
        return cls(store, session.id, *await store.write(lambda tx: stored(tx, session)))

    @property
    def turn(self) -> int:
        return len(self._transcript.turns)

    def transcript(self) -> Transcript:
        return self._transcript

    def pending(self) -> Sequence[Pending]:
        return tuple(self._pending)

    async def store_reply(self, reply: Reply) -> None:
        turn = self.turn + 1
        await self._store.write(lambda tx: sessions.store_reply(tx, self._session, turn, reply))
        self._pending = [
            Pending(sessions.call_id(self._session, turn, index), self._calls + index, call)
            for index, call in enumerate(reply.calls)
        ]
        self._calls += len(reply.calls)
        self._transcript = replace(self._transcript, turns=(*self._transcript.turns, Turn(reply)))

    async def store_summary(self, reply: Reply, text: str) -> None:
        turns = self.turn
        await self._store.write(lambda tx: sessions.store_summary(tx, self._session, turns, text, reply))
        summaries = (*self._transcript.summaries, Summary(turns, text))
        self._transcript = replace(self._transcript, summaries=summaries)

    async def begin(self, pending: Pending) -> None:
        self._began[pending.key] = anyio.current_time()
        await self._store.write(lambda tx: sessions.begin_call(tx, pending.key))

    async def finish(self, pending: Pending, answer: Answer) -> None:
        seconds = anyio.current_time() - self._began.pop(pending.key, anyio.current_time())
        await self._store.write(lambda tx: sessions.finish_call(tx, pending.key, answer, seconds))
        self._pending = [other for other in self._pending if other.key != pending.key]
        last = self._transcript.turns[-1]
        result = ToolResult(pending.call.id, answer.text, answer.refused)
        self._put_last(replace(last, results=(*last.results, result), end=last.end or answer.end))

    async def hear(self) -> None:
        await self._hear()

    async def say(self, line: str) -> None:
        await self._hear(line)

    async def _hear(self, *said: str) -> None:
        turn = self.turn

        def deliver(tx: Tx) -> list[str]:
            for line in said:
                sessions.say(tx, self._session, "run", line)
            return sessions.deliver(tx, self._session, turn)

        lines = await self._store.write(deliver)
        if lines and turn:
            last = self._transcript.turns[-1]
            self._put_last(replace(last, said=(*last.said, *lines)))
        elif lines:
            self._transcript = replace(self._transcript, said=(*self._transcript.said, *lines))

    def _put_last(self, turn: Turn) -> None:
        self._transcript = replace(self._transcript, turns=(*self._transcript.turns[:-1], turn))


def stored(tx: Tx, session: Session) -> tuple[Transcript, int, list[Pending]]:
    """A session's transcript, how many calls its turns hold, and those of the last turn that have no result yet."""
    db = tx.db
    said = sessions.messages(db, session.id)
    turns, calls, pending = [], 0, list[Pending]()
    for number, reply in sessions.turns_of(db, session.id):
        kept = list(zip(reply.calls, sessions.calls_of(db, session.id, number), strict=True))
        done = [(wanted, call) for wanted, call in kept if call.state is CallState.DONE]
        pending = [
            Pending(call.id, calls + call.index, wanted, call.state is CallState.RUNNING)
            for wanted, call in kept
            if call.state is not CallState.DONE
        ]
        calls += len(kept)
        results = tuple(ToolResult(wanted.id, call.result, call.failed) for wanted, call in done)
        ends = [End(call.end) for _, call in done if call.end]
        turns.append(Turn(reply, results, tuple(said.get(number, ())), ends[0] if ends else None))
    summaries = tuple(Summary(count, text) for count, text in sessions.summaries(db, session.id))
    opening = tx.payload(session.opening).decode() if session.opening else ""
    return Transcript(opening, tuple(turns), summaries, tuple(said.get(0, ()))), calls, pending
