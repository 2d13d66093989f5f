"""Open seats: a person or any program works in the team from a shell. Same tools, transcript, room, limits and gate.

Each command is one turn with one call. A session's room lives in a task of its own, so that a command that lasts goes
on when the shell that asked is gone; its answer is stored, and `last` shows it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from agents import tools
from agents.hands import Hands
from agents.models.base import Reply, Request, Stop, ToolCall, Usage
from agents.session import Mind, Outcome, act
from agents.team import Answer, End
from orchestrator.control import Refusal
from orchestrator.desk import Desk, Seat
from orchestrator.records import Session
from orchestrator.seat import DEAD_ROOMS, begin, checkpoint, checkpoints, end, room_of
from orchestrator.store import Tx, sessions
from orchestrator.store.store import read_payload
from orchestrator.tasklist import Show, render_tasks
from orchestrator.transcript import StoredLog
from orchestrator.verbs import Verbs
from sandbox.room import RoomDied

MODEL: Final = "open"
SEEN_EVERY_S: Final = 5.0


@dataclass
class _Asked:
    """A command on its way to its session's task, and its answer on the way back."""

    tool: str
    arguments: Mapping[str, Any]
    done: anyio.Event = field(default_factory=anyio.Event)
    answer: Answer | None = None
    heard: tuple[str, ...] = ()


@dataclass
class _Desk:
    """A taken seat: its session, the command that runs, the one that ran last."""

    seat: Seat
    session: Session
    token: str
    ready: anyio.Event = field(default_factory=anyio.Event)
    wanted: anyio.Event = field(default_factory=anyio.Event)
    asked: _Asked | None = None
    last: _Asked | None = None
    over: Outcome | None = None
    lease_ends: float = 0.0  # on the monotonic clock: a resume starts it anew, full; anything the seat does renews it


class OpenSeats:
    """The seats of a run that nobody of ours thinks for."""

    def __init__(self, desk: Desk, seats: Sequence[Seat], tasks: TaskGroup) -> None:
        self._desk = desk
        self._seats = {seat.name: seat for seat in seats}
        self._tasks = tasks
        self._taken: dict[str, _Desk] = {}  # by token

    async def recover(self) -> None:
        """Live sessions of open seats go on where they were, with a full lease; whoever holds the token comes back."""

        def read(tx: Tx) -> list[tuple[Session, str]]:
            rows = tx.all("SELECT id, token FROM session WHERE state <> 'ended' AND open_seat ORDER BY started")
            return [(sessions.get(tx.db, row["id"]), row["token"]) for row in rows]

        for session, token in await self._desk.store.write(read):
            self._host(self._seats[session.seat], session, token)

    async def take(self, role: str = "", seat: str = "", token: str = "") -> dict[str, Any]:
        """Takes a free seat, or begins the next session of the seat that `token` holds."""
        desk = self._desk
        if desk.draining:
            raise Refusal(f"the run takes no new sessions: {desk.draining}")
        if token:
            held = self._held(token)
            if held.over is None:
                return await self._introduce(held)
            chosen = held.seat
        else:
            chosen = self._free(role, seat)
            token = secrets.token_hex(8)
        session = await begin(chosen, desk, open_token=token)
        assert isinstance(session, Session)  # only the ramp leaves a seat idle, and it does not ask open seats
        return await self._introduce(self._host(chosen, session, token))

    def _free(self, role: str, name: str) -> Seat:
        busy = {held.seat.name for held in self._taken.values()}
        for seat in self._seats.values():
            if seat.name not in busy and name in ("", seat.name) and role in ("", seat.role):
                return seat
        wanted = name or role or "open"
        raise Refusal(f"no {wanted} seat is free; {len(busy)} of {len(self._seats)} open seats are taken", "not_found")

    def _held(self, token: str) -> _Desk:
        held = self._taken.get(token)
        if held is None:
            raise Refusal("this token holds no seat of this run: `take` gives one", "not_found")
        return held

    async def _introduce(self, held: _Desk) -> dict[str, Any]:
        await held.ready.wait()
        session, desk = held.session, self._desk
        now = desk.utc_now()
        text = await desk.store.read(lambda db: read_payload(db, session.opening).decode())
        tasks = await desk.store.read(lambda db: render_tasks(db, Show.READY, now))
        return {
            "seat": held.seat.name,
            "role": held.seat.role,
            "session": session.id,
            "token": held.token,
            "prompt": desk.prompts[held.seat.role],
            "opening": text,
            "board": tasks,
            "tools": [spec.name for spec in tools.specs(held.seat.role)],
        }

    async def call(self, token: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One tool call. Refused while an earlier one of this seat runs, and once its session is over."""
        held = self._held(token)
        await held.ready.wait()
        if held.asked is not None:
            raise Refusal(f"your earlier `{held.asked.tool}` still runs: `last` waits for its answer")
        if held.over is not None:
            raise Refusal(f"this session is over ({held.over.end}): `take` with your token begins the next one")
        held.asked = _Asked(tool, arguments)
        held.wanted.set()
        return await self._answer(held, held.asked)

    async def last(self, token: str) -> dict[str, Any]:
        """The answer of the newest command, waiting for it if it still runs."""
        held = self._held(token)
        asked = held.asked or held.last
        if asked is None:
            raise Refusal("you have not asked for anything in this session", "not_found")
        return await self._answer(held, asked)

    async def _answer(self, held: _Desk, asked: _Asked) -> dict[str, Any]:
        await asked.done.wait()
        assert asked.answer is not None
        over = held.over.end.value if held.over else None
        answer = asked.answer
        return {"text": answer.text, "failed": answer.refused, "messages": list(asked.heard), "session_over": over}

    async def board(self, token: str, wait_s: float) -> dict[str, Any]:
        """The board, after waiting up to `wait_s` seconds for it to change."""
        self._held(token)
        bell = self._desk.board_changed
        heard = bell.heard
        news = "" if not wait_s else "changed" if await bell.wait(heard, wait_s) > heard else "nothing changed"
        taken = sum(held.over is None for held in self._taken.values())
        now = self._desk.utc_now()
        text = await self._desk.store.read(lambda db: render_tasks(db, Show.READY, now))
        return {"text": f"{news + ', ' if news else ''}{taken} of {len(self._seats)} seats are at work\n{text}"}

    @property
    def working(self) -> bool:
        """Whether a taken seat's session still lives."""
        return any(held.over is None for held in self._taken.values())

    async def leave(self, token: str) -> dict[str, Any]:
        """Gives the seat back; the session's task is released and its work kept."""
        held = self._held(token)
        if held.over is None:
            await self._over(held, Outcome(End.LEFT, "left the seat"))
        del self._taken[token]
        return {"left": held.seat.name}

    def _host(self, seat: Seat, session: Session, token: str) -> _Desk:
        held = _Desk(seat, session, token)
        self._taken[token] = held
        self._renew(held)
        self._tasks.start_soon(self._serve, held)
        return held

    def _renew(self, held: _Desk) -> None:
        held.lease_ends = anyio.current_time() + self._desk.settings.lease_s

    async def _over(self, held: _Desk, outcome: Outcome) -> None:
        held.over = outcome
        held.wanted.set()

    async def _serve(self, held: _Desk) -> None:
        """The session's room, as long as the session lives."""
        desk, session = self._desk, held.session
        for lives in range(DEAD_ROOMS):
            try:
                async with room_of(held.seat, desk, session) as (room, news), checkpoints(desk, session, room):
                    log = await StoredLog.load(desk.store, session)
                    if news:
                        await desk.tell(session.id, news)
                    mind = Mind(session.role, "", (), 0, _nobody)
                    hands, verbs = Hands(room, desk.project.command_s), Verbs(desk, session, room)
                    for pending in log.pending():  # cut by a crash: verbs go on, commands are told as interrupted
                        await act(pending, log, mind, hands, verbs)
                        await self._finish(held, log, pending.call.name)
                    held.ready.set()
                    while held.over is None:
                        await self._next(held, log, mind, hands, verbs)
                    await checkpoint(desk, session, room)
                break
            except RoomDied as death:
                await desk.journal("room-lost", held.seat.name, session=session.id, reason=str(death)[:300])
                if lives == DEAD_ROOMS - 1:
                    held.over = Outcome(End.CRASHED, f"its room died {DEAD_ROOMS} times: {death}")
        assert held.over is not None
        await end(desk, session, held.over)
        held.ready.set()

    async def _next(self, held: _Desk, log: StoredLog, mind: Mind, hands: Hands, verbs: Verbs) -> None:
        """Waits for a command, within the lease, and runs it."""
        while held.asked is None and held.over is None:
            with anyio.move_on_after(SEEN_EVERY_S):
                await held.wanted.wait()
            if held.asked is None and anyio.current_time() >= held.lease_ends:
                held.over = Outcome(End.LEFT, "nothing was heard of it for its whole lease")
        held.wanted = anyio.Event()
        if held.asked is None:
            return
        call = ToolCall(f"open-{log.turn + 1}", held.asked.tool, held.asked.arguments)
        await log.hear()
        await log.store_reply(Reply((call,), Stop.TOOLS, Usage(), MODEL))
        await act(log.pending()[0], log, mind, hands, verbs)
        await self._finish(held, log, call.name)

    async def _finish(self, held: _Desk, log: StoredLog, tool: str) -> None:
        turn = log.transcript().turns[-1]
        answer = Answer(turn.results[-1].text, turn.results[-1].failed, turn.end)
        self._renew(held)
        if answer.end is not None:
            held.over = Outcome(answer.end, answer.text.partition("\n")[0])
        asked = held.asked or _Asked(tool, {})
        await log.hear()
        asked.answer, asked.heard = answer, log.transcript().turns[-1].said
        held.last, held.asked = asked, None
        asked.done.set()


async def _nobody(request: Request) -> Reply:
    raise AssertionError("an open seat asks no model")
