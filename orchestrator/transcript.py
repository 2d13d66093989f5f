"""A session's log over the store: what the turn loop of `agents/session.py` writes, and what a resume reads back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from agents.context import Summary, Transcript, Turn
from agents.models.base import Reply, ToolResult
from agents.session import Pending
from agents.team import Answer, End
from orchestrator.records import CallState, Session
from orchestrator.store import Store, Tx, sessions


class StoredLog:
    """`agents.session.SessionLog`: each write is durable before the copy in memory changes."""

    def __init__(self, store: Store, session: Session, transcript: Transcript, calls: int) -> None:
        self._store = store
        self._session = session.id
        self._transcript = transcript
        self._calls = calls  # of the turns before the last one
        self._pending: list[Pending] = []
        self._began: dict[str, float] = {}

    @classmethod
    async def load(cls, store: Store, session: Session) -> StoredLog:
        """The session as it is stored, whoever wrote it."""
        transcript, calls, pending = await store.write(lambda tx: stored(tx, session))
        log = cls(store, session, transcript, calls)
        log._pending = pending
        return log

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
        turn = self.turn
        lines = await self._store.write(lambda tx: sessions.deliver(tx, self._session, turn))
        self._heard(lines)

    async def say(self, line: str) -> None:
        turn = self.turn

        def work(tx: Tx) -> list[str]:
            sessions.say(tx, self._session, "run", line)
            return sessions.deliver(tx, self._session, turn)

        self._heard(await self._store.write(work))

    def _heard(self, lines: list[str]) -> None:
        if not lines:
            return
        if not self._transcript.turns:
            self._transcript = replace(self._transcript, said=(*self._transcript.said, *lines))
        else:
            last = self._transcript.turns[-1]
            self._put_last(replace(last, said=(*last.said, *lines)))

    def _put_last(self, turn: Turn) -> None:
        self._transcript = replace(self._transcript, turns=(*self._transcript.turns[:-1], turn))


def stored(tx: Tx, session: Session) -> tuple[Transcript, int, list[Pending]]:
    """A session's transcript, how many calls its turns hold, and those of the last turn that have no result yet."""
    db = tx.db
    said = sessions.messages(db, session.id)
    turns, calls, pending = [], 0, []
    for number, reply in sessions.turns_of(db, session.id):
        stored = sessions.calls_of(db, session.id, number)
        results = tuple(
            ToolResult(wanted.id, call.result, call.failed)
            for wanted, call in zip(reply.calls, stored, strict=True)
            if call.state is CallState.DONE
        )
        pending = [
            Pending(call.id, calls + call.index, wanted, call.state is CallState.RUNNING)
            for wanted, call in zip(reply.calls, stored, strict=True)
            if call.state is not CallState.DONE
        ]
        calls += len(stored)
        ends = [End(call.end) for call in stored if call.end]
        turns.append(Turn(reply, results, tuple(said.get(number, ())), ends[0] if ends else None))
    summaries = tuple(Summary(count, text) for count, text in sessions.summaries(db, session.id))
    opening = tx.payload(session.opening).decode() if session.opening else ""
    transcript = Transcript(opening, tuple(turns), summaries, tuple(said.get(0, ())))
    return transcript, calls, pending
