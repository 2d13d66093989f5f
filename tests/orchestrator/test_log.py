"""The session's log in memory is what a resume would read from the state."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from agents.models.base import Block, Opaque, Reply, Stop, Text, ToolCall, Usage
from agents.session import Pending
from agents.tools import Answer, End
from orchestrator.records import Session, SessionState
from orchestrator.store import Store, Tx, sessions
from orchestrator.store.sessions import StoredLog

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def reply(turn: int, calls: int) -> Reply:
    asked = [ToolCall(f"c{turn}.{n}", "note", {"topic": "x", "a": n, "text": "\ud800 é"}) for n in range(calls)]
    blocks: tuple[Block, ...] = (Text(f"Turn {turn}."), Opaque("vendor", {"b": [1, (2, 3)], "a": None}), *asked)
    return Reply(blocks, Stop.TOOLS, Usage(input=turn, output=2), "model", {"z": 1, "a": {"y": 2}})


def stored_by_a_verb(call: str, tx: Tx) -> None:
    sessions.finish_call(tx, call, Answer("taken", end=End.RELEASED))


async def test_after_every_write_the_log_holds_what_a_resume_would_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", lambda: NOW)
    await store.create("run", "{}")
    await store.begin_epoch()
    session = Session("agent-01/1", "agent-01", 1, "builder", "model", SessionState.ACTIVE, NOW, "")
    await store.write(lambda tx: sessions.start(tx, session))
    await store.write(lambda tx: sessions.say(tx, session.id, "run", "said before the first reply"))
    log = await StoredLog.load(store, session)

    async def same() -> None:
        there = await store.read(lambda db: sessions.stored(db, session))
        assert (log.transcript, list(log.pending)) == there

    await log.hear()
    await same()
    assert log.transcript.said == ("[run] said before the first reply",)
    for turn, calls in enumerate((2, 1, 0, 3), 1):
        given = reply(turn, calls)
        if turn % 2:  # as the ledger's transaction stores it, else as an open seat's
            await store.write(partial(lambda given, tx: log.paid(tx, given), given))
        await log.store_reply(given)
        await same()
        while log.pending:
            pending: Pending = log.pending[0]
            await log.begin(pending)
            await same()
            if turn == 2:  # a verb stores its answer with its effect
                await store.write(partial(stored_by_a_verb, pending.key))
            await log.finish(pending, Answer(f"done {pending.key}", refused=bool(pending.number % 2)))
            await same()
        await store.write(lambda tx: sessions.say(tx, session.id, "person", f"heard after turn {log.turn}"))
        await log.hear()
        await same()
        assert log.transcript.turns[-1].said == (f"[person] heard after turn {turn}",)
    await log.store_summary(reply(9, 0), "what there was")
    await same()
    assert log.transcript.turns[1].results[0].text == "taken" and log.transcript.turns[1].end is End.RELEASED
    await store.close()


async def test_nothing_is_written_to_hear_that_nobody_spoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.db", lambda: NOW)
    await store.create("run", "{}")
    await store.begin_epoch()
    session = Session("agent-01/1", "agent-01", 1, "builder", "model", SessionState.ACTIVE, NOW, "")
    await store.write(lambda tx: sessions.start(tx, session))
    log = await StoredLog.load(store, session)
    await log.hear()  # an earlier process may have left something
    monkeypatch.setattr(store, "write", None)
    await log.hear()
    await store.close()
