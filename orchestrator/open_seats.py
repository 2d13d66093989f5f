"""Open seats: a person or any program works in the team from a shell. Same tools, transcript, room, limits and gate.

Each command is one turn with one call. A session's room lives in a task of its own, so that a command that lasts goes
on when the shell that asked is gone; its answer is stored, and `last` shows it.
"""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from agents import tools
from agents.hands import Hands
from agents.models.base import Reply, Stop, ToolCall, Usage
from agents.models.choose import OPEN
from agents.session import Outcome, act
from agents.tools import End, Later
from orchestrator import board
from orchestrator.briefing import describe
from orchestrator.control import Refusal
from orchestrator.desk import Desk, Seat
from orchestrator.records import Session, SessionState
from orchestrator.seat import RESTS, again, begin, end, live, put_aside, rest, sessions_of, take_up
from orchestrator.signals import Bell
from orchestrator.store import sessions
from orchestrator.store.sessions import StoredLog
from orchestrator.store.store import read_payload
from orchestrator.verbs import Verbs

LOOKS: Final = 4  # in a lease, for sessions that nobody takes up
TICK_S: Final = 0.2  # between two looks


@dataclass
class _Chair:
    """A taken seat: its session, and the command that runs. The log has those that have run, with their answers; it is
    there once the room is, and a command that a crash cut has come to its end. `changed` rings for all of this."""

    seat: Seat
    session: Session
    log: StoredLog | None = None
    asked: ToolCall | None = None
    over: Outcome | None = None
    left: bool = False  # its workspace is gone: the seat may begin another
    changed: Bell = field(default_factory=Bell)

    async def ready(self) -> None:
        """Waits until it takes commands, or never will."""
        await self.changed.until(lambda: self.left or self.log is not None)


class OpenSeats:
    """The seats of a run that nobody of ours thinks for."""

    def __init__(self, desk: Desk, tasks: TaskGroup) -> None:
        self._desk = desk
        self._seats = {seat.name: seat for seat in desk.seats if seat.model == OPEN}
        self._tasks = tasks
        self._taken: dict[str, _Chair] = {}  # by token
        self._taking = anyio.Lock()

    async def recover(self) -> None:
        """Live sessions of open seats go on where they were, with a full lease; whoever holds the token comes back."""
        for seat in self._seats.values():
            live = await self._desk.store.read(partial(sessions_of, seat=seat.name))
            able = [session for session, rests in live if not rests]
            if able:
                self._host(seat, await take_up(self._desk, able[0]))
            elif live:
                waits = Outcome(End.WAITING, "its change is judged")
                self._taken[live[0][0].token] = _Chair(seat, live[0][0], over=waits, left=True)

    async def keep(self) -> None:
        """Until cancelled: hands in what waited for another change of its seat, and ends sessions whose change came
        back and that nobody takes up for a whole lease."""
        alone: dict[str, float] = {}
        while True:
            with anyio.move_on_after(self._desk.settings.lease_s / LOOKS):
                await self._desk.changed.coming.wait()
            async with self._taking:
                busy, now = {chair.seat.name for chair in self._taken.values() if not chair.left}, anyio.current_time()
                for name in self._seats.keys() - busy:
                    for session, rests in await self._desk.store.read(partial(sessions_of, seat=name)):
                        if session.state is SessionState.WAITING and not rests:
                            self._host(self._seats[name], await take_up(self._desk, session))
                            break
                        if not rests and now - alone.setdefault(session.id, now) >= self._desk.settings.lease_s:
                            await end(self._desk, session, Outcome(End.LEFT, "nobody took it up for a whole lease"))
            alone = {id: since for id, since in alone.items() if board.seat_of(id) not in busy}
            await anyio.sleep(TICK_S)

    # -- what is asked of them

    async def take(self, role: str, seat: str, token: str, prompt: bool = False) -> dict[str, Any]:
        """Takes a free seat; or, of the seat that `token` holds, goes on with the session that may go on, or begins the
        next: without the role's prompt, which its holder has read, unless it is asked for."""
        desk = self._desk
        if token and (old := self._chair(token)).over is not None:
            await old.changed.until(lambda: old.left)
        async with self._taking:  # nobody else may be given the seat meanwhile
            chair = self._chair(token) if token else None
            if chair is None or chair.over is not None:
                free = chair.seat if chair else self._free(role, seat)
                chair = self._host(free, await self._session(free, token))
        await chair.ready()
        session = chair.session

        def told(db: sqlite3.Connection) -> str:
            held = board.claim_of(db, session.id)  # of one who comes back in mid-session
            still = f"\n\nYou hold {describe(db, board.get(db, held.task), session.id)}" if held else ""
            newest = sessions.stored(db, session)[0].turns[-1:]
            last = [f"\n\nThis session goes on after:\n{done.text}" for turn in newest for done in turn.results]
            return f"{read_payload(db, session.opening).decode()}{still}{''.join(last)}"

        return {
            "seat": chair.seat.name,
            "role": chair.seat.role,
            "session": session.id,
            "token": session.token,
            "prompt": desk.frozen.prompts[chair.seat.role] if prompt or not token else "",
            "opening": await desk.store.read(told),
            "board": await desk.board(),
            "tools": tools.names(chair.seat.role),
        }

    async def _session(self, seat: Seat, token: str) -> Session:
        """The seat's session that may go on, or its next."""
        desk = self._desk
        live = await desk.store.read(partial(sessions_of, seat=seat.name)) if token else []
        if able := [session for session, rests in live if not rests]:
            return await take_up(desk, able[0])
        if desk.draining:
            raise Refusal(f"the run takes no new sessions: {desk.draining}")
        if len(live) > 1:
            raise Refusal(f"{live[0][0].id} and {live[1][0].id} wait for the gate: `wait`, then `take` again")
        try:
            return await begin(seat, desk, open_token=token or secrets.token_hex(8))
        except board.Refused as why:
            raise Refusal(f"{why}: `wait`, then `take` again") from None

    async def call(self, token: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One tool call. Refused while an earlier one of this seat runs, and once its session is over."""
        chair = self._chair(token)
        await chair.ready()
        if chair.asked is not None:
            raise Refusal(f"your earlier `{chair.asked.name}` still runs: `last` waits for its answer")
        if chair.over is not None:
            raise Refusal(f"this session is over ({chair.over.end}): `take` with your token begins the next one")
        chair.asked = ToolCall("", tool, arguments)
        chair.changed.ring()
        return await self.last(token)

    async def last(self, token: str) -> dict[str, Any]:
        """The answer of the newest command, waiting for it if it still runs."""
        chair = self._chair(token)
        await chair.ready()
        await chair.changed.until(lambda: chair.left or chair.asked is None)
        over = {"session": chair.session.id, "session_over": chair.over.end.value if chair.over else None}
        if chair.over and chair.asked:  # a submit that waits; or put aside, or its room died, before it was done
            return {"text": chair.over.reason, "failed": chair.over.end is not End.WAITING, "messages": [], **over}
        for turn in chair.log.transcript.turns[-1:] if chair.log else ():
            done = turn.results[-1]
            return {"text": done.text, "failed": done.failed, "messages": turn.said, **over}
        raise Refusal("you have not asked for anything in this session", "not_found")

    async def board(self, token: str, wait_s: float) -> dict[str, Any]:
        """The board, after waiting up to `wait_s` seconds for it to change."""
        self._chair(token)
        with anyio.move_on_after(wait_s) as waited:
            await self._desk.changed.coming.wait()
        news = "nothing changed" if waited.cancelled_caught else "changed"
        taken = sum(chair.over is None for chair in self._taken.values())
        return {"text": f"{news}, {taken} of {len(self._seats)} seats are at work\n{await self._desk.board()}"}

    async def leave(self, token: str) -> dict[str, Any]:
        """Gives the seat back; the session's task is released and its work kept."""
        chair = self._chair(token)
        if chair.over is None:
            chair.over = Outcome(End.LEFT, "left the seat")
            chair.changed.ring()
        await chair.changed.until(lambda: chair.left)
        self._taken.pop(token, None)
        return {"left": chair.seat.name}

    def _chair(self, token: str) -> _Chair:
        chair = self._taken.get(token)
        if chair is None:
            raise Refusal("this token holds no seat of this run: `take` gives one", "not_found")
        return chair

    def _free(self, role: str, name: str) -> Seat:
        busy = {chair.seat.name for chair in self._taken.values()}
        for seat in self._seats.values():
            if seat.name not in busy and name in ("", seat.name) and role in ("", seat.role):
                return seat
        wanted = name or role or "open"
        raise Refusal(f"no {wanted} seat is free; {len(busy)} of {len(self._seats)} open seats are taken", "not_found")

    # -- a session's task

    def _host(self, seat: Seat, session: Session) -> _Chair:
        chair = self._taken[session.token] = _Chair(seat, session)
        self._tasks.start_soon(again, seat, self._desk, partial(self._serve, chair))
        return chair

    async def _serve(self, chair: _Chair) -> bool:
        """The session's whole life; the seat's next one has a task of its own."""
        chair.over = await live(chair.seat, self._desk, chair.session, partial(self._drive, chair))
        if chair.over.end in RESTS:
            await rest(self._desk, chair.session)
        else:
            await end(self._desk, chair.session, chair.over)
        chair.left = True
        chair.changed.ring()
        return False

    async def _drive(self, chair: _Chair, log: StoredLog, hands: Hands, verbs: Verbs) -> Outcome:
        """Carries out one command after another. The lease is full again after each, and after a resume."""
        while True:
            if waiting := log.pending:  # after a crash as well: verbs go on, commands are told as interrupted
                try:
                    await act(waiting[0], log, chair.seat.role, hands, verbs)
                except Later as later:
                    return Outcome(End.WAITING, f"{later}: this session waits for the verdict, your seat need not")
                await log.hear()
                chair.asked = None
            for turn in log.transcript.turns[-1:]:
                if turn.end is not None:
                    chair.over = Outcome(turn.end, turn.results[-1].text.partition("\n")[0])
            chair.log = log
            chair.changed.ring()
            with anyio.move_on_after(self._desk.settings.lease_s):
                await chair.changed.until(lambda: bool(chair.asked or chair.over))
            if chair.over is not None:
                return chair.over
            if chair.asked is None:
                return Outcome(End.LEFT, "nothing was heard of it for its whole lease")
            if put_aside(self._desk, chair.session):
                back = self._desk.gate.returned[chair.seat.name]
                return Outcome(End.ASIDE, f"not run: the change of {back} came back and is repaired first")
            call = replace(chair.asked, id=f"open-{log.turn + 1}")
            await log.store_reply(Reply((call,), Stop.TOOLS, Usage(), OPEN))
