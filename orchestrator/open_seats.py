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
from orchestrator.ramp import PLANNER
from orchestrator.records import Change, ChangeState, Session, SessionState
from orchestrator.seat import RESTS, again, begin, end, live, put_aside, rest, sessions_of, take_up
from orchestrator.signals import Bell
from orchestrator.store import rows, sessions
from orchestrator.store.sessions import StoredLog
from orchestrator.store.store import read_payload
from orchestrator.verbs import Verbs, tasks
from orchestrator.verdict import standing
from orchestrator.watch.journal import entries
from orchestrator.watch.render import some

LOOKS: Final = 4  # in a lease, for sessions that nobody takes up
TICK_S: Final = 0.2  # between two looks
NEWS: Final = "kind IN ('landed', 'bounced', 'withdrawn', 'run-draining') AND seq > ?"
OTHERS: Final = 10  # of what is new of others, that a seat is told at once


@dataclass
class _Chair:
    """A taken seat: its session, and the command that runs. The log has those that have run, with their answers; it is
    there once the room is, and a command that a crash cut has come to its end. `changed` rings for all of this. `heard`
    is the journal's place up to which its holder was told what is new; `seen` are the tasks that it saw as ready."""

    seat: Seat
    session: Session
    heard: int
    seen: frozenset[str] = frozenset()
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
        self._began = 0  # where the journal was when this process took over

    async def recover(self) -> None:
        """Live sessions of open seats go on where they were, with a full lease; whoever holds the token comes back."""
        self._began = await self._desk.store.read(newest)
        for seat in self._seats.values():
            live = await self._desk.store.read(partial(sessions_of, seat=seat.name))
            able = [session for session, rests in live if not rests]
            if able:
                self._host(seat, await take_up(self._desk, able[0]))
            elif live:
                waits = Outcome(End.WAITING, "its change is judged")
                self._taken[live[0][0].token] = _Chair(seat, live[0][0], self._began, over=waits, left=True)

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
        if token:
            old = self._chair(token)
            await old.ready()
            if old.over is None and put_aside(desk, old.session):
                old.over = await self._aside(old.session)
                old.changed.ring()
            await old.changed.until(lambda: old.over is None or old.left)
        async with self._taking:  # nobody else may be given the seat meanwhile
            chair = self._chair(token) if token else None
            if chair is None or chair.over is not None:
                free = chair.seat if chair else self._free(role, seat)
                since = await desk.store.read(newest)  # a verdict that comes from here on may not be in the opening
                chair = self._host(free, await self._session(free, token))
                chair.heard = since
        await chair.ready()
        session = chair.session

        def told(db: sqlite3.Connection) -> str:
            held = board.claim_of(db, session.id)  # of one who comes back in mid-session
            still = f"\n\nYou hold {describe(db, board.get(db, held.task), session.id)}" if held else ""
            turns = sessions.stored(db, session)[0].turns[-1:]
            last = [f"\n\nThis session goes on after:\n{done.text}" for turn in turns for done in turn.results]
            begun = read_payload(db, session.opening).decode()
            first = begun.partition("\n")[0] if turns else begun  # the rest is of when it began
            return f"{first}{still}{''.join(last)}"

        chair.seen = await desk.store.read(ready_ids)
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
            words = f"the run takes no new sessions ({desk.draining}): `wait` tells what still comes, `leave` ends it"
            raise Refusal(f"{words} ({seat.name})")
        if len(live) > 1:
            raise Refusal(f"{live[0][0].id} and {live[1][0].id} wait for the gate: `wait`, then `take` again")
        try:
            return await begin(seat, desk, open_token=token or secrets.token_hex(8))
        except board.Refused as why:
            raise Refusal(f"{why}: `wait`, then `take` again ({seat.name})") from None

    async def call(self, token: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One tool call. Refused while an earlier one of this seat runs, and once its session is over or rests; all but
        `tasks`, which is answered then without being a turn."""
        chair = self._chair(token)
        await chair.ready()
        if tool == "tasks":
            chair.seen = await self._desk.store.read(ready_ids)
            if chair.asked or chair.over:
                return await self._looked(chair, arguments)
        if chair.over is not None:
            raise Refusal(f"not run: {await self._why_over(chair)} ({chair.session.id})")
        if chair.asked is not None:
            words = f"your earlier `{chair.asked.name}` still runs: `last` waits for its answer"
            raise Refusal(f"{words} ({chair.session.id})")
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
            rests = chair.over.end is End.WAITING
            text = await self._why_over(chair) if rests else chair.over.reason
            text = "not run: " * (chair.over.end is End.ASIDE) + text
            return {"text": text, "failed": not rests, "messages": [], **over}
        for turn in chair.log.transcript.turns[-1:] if chair.log else ():
            done = turn.results[-1]
            return {"text": done.text, "failed": done.failed, "messages": turn.said, **over}
        raise Refusal(f"you have not asked for anything in this session ({chair.session.id})", "not_found")

    async def _looked(self, chair: _Chair, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`tasks` for a session that cannot have another turn now."""
        over = {"session": chair.session.id, "session_over": chair.over.end.value if chair.over else None}
        try:
            given = tools.check(chair.seat.role, "tasks", arguments).model_dump()
            text, failed = await tasks(self._desk, chair.session.id, **given), False
        except (tools.BadArguments, board.Refused) as why:
            text, failed = str(why), True
        return {"text": text, "failed": failed, "messages": [], **over}

    async def _why_over(self, chair: _Chair) -> str:
        """Why a session takes no command, and which one comes next."""
        assert chair.over
        if chair.over.end is End.ASIDE:
            return chair.over.reason
        if chair.over.end is not End.WAITING:
            return f"this session is over ({chair.over.end}): `take` with your token begins the next one"
        last = "WHERE call = (SELECT id FROM call WHERE session = ? ORDER BY turn DESC, number DESC LIMIT 1)"

        def words(db: sqlite3.Connection) -> str:
            change = rows.first(db, Change, last, chair.session.id)
            return come(db, change) if change else ""

        meanwhile = "`take` with your token begins your next session meanwhile, `wait` waits for the verdict"
        return await self._desk.store.read(words) or f"{chair.over.reason}; {meanwhile}"

    async def _aside(self, session: Session) -> Outcome:
        """The end for now of a session whose seat has a change to repair first."""
        back, sql = (
            self._desk.gate.returned[session.seat],
            "WHERE session = ? AND state = 'bounced' ORDER BY number DESC",
        )
        change = await self._desk.store.read(lambda db: rows.first(db, Change, sql, back))
        what = (
            f"{change.id} of {back} bounced: {change.reason.partition(chr(10))[0]}"
            if change
            else f"the change of {back} came back"
        )
        return Outcome(End.ASIDE, f"{what}; `take` with your token goes on with that, and later with {session.id}")

    async def board(self, token: str, wait_s: float) -> dict[str, Any]:
        """The board, after waiting up to `wait_s` seconds for what concerns the seat: the verdict on a change of its
        own, a task that is ready while it has none, to a planner everything. Above it what is new since it was told."""
        chair, desk = self._chair(token), self._desk
        told = partial(news, session=chair.session, heard=chair.heard)
        with anyio.move_on_after(wait_s):
            async for _ in desk.changed.rings():
                wakes, *_, ready = await desk.store.read(partial(told, seen=chair.seen))
                if wakes:
                    break
                chair.seen &= ready
        _, lines, chair.heard, chair.seen = await desk.store.read(partial(told, seen=chair.seen))
        taken = sum(chair.over is None for chair in self._taken.values())
        lines = [*(lines or ["nothing changed"]), f"{taken} of {len(self._seats)} seats are at work"]
        text = "\n".join([*lines, await tasks(desk, chair.session.id)])
        return {"text": text, "session": chair.session.id}

    async def leave(self, token: str) -> dict[str, Any]:
        """Gives the seat back; the session's task is released and its work kept."""
        chair = self._chair(token)
        if chair.over is None:
            chair.over = Outcome(End.LEFT, "left the seat")
            chair.changed.ring()
        await chair.changed.until(lambda: chair.left)
        self._taken.pop(token, None)
        return {"left": chair.seat.name, "session": chair.session.id}

    def _chair(self, token: str) -> _Chair:
        chair = self._taken.get(token)
        if chair is None:
            words = "this token holds no seat of this run: `take` without it (--token '') gives one"
            raise Refusal(words, "not_found")
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
        chair = self._taken[session.token] = _Chair(seat, session, self._began)
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
                    return Outcome(End.WAITING, str(later))
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
                return await self._aside(chair.session)
            call = replace(chair.asked, id=f"open-{log.turn + 1}")
            await log.store_reply(Reply((call,), Stop.TOOLS, Usage(), OPEN))


def newest(db: sqlite3.Connection) -> int:
    """The journal's last place."""
    return int(db.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()[0])


def ready_ids(db: sqlite3.Connection) -> frozenset[str]:
    return frozenset(task.id for task in board.ready(db))


def come(db: sqlite3.Connection, change: Change) -> str:
    """How a change stands, and which command of its seat comes next."""
    lives = rows.get(db, Session, change.session).state is not SessionState.ENDED
    if not change.state.terminal:
        then = "begins your next session meanwhile, `wait` waits for the verdict"
    else:
        then = "goes on with it" if lives else "begins your next session"
    return f"{standing(db, change)}; `take` with your token {then}"


def news(
    db: sqlite3.Connection, *, session: Session, heard: int, seen: frozenset[str]
) -> tuple[bool, list[str], int, frozenset[str]]:
    """Whether anything after the journal's place `heard` concerns the session's seat; all that is new by then, its own
    first; the place up to which that is; and the tasks ready now, of which `seen` are not new."""
    found, now = entries(db, NEWS, heard), ready_ids(db)
    ends = [rows.get(db, Change, one.data["change"]) for one in found if one.seat == session.seat]
    mine = [
        standing(db, one) if one.state is ChangeState.LANDED and one.session != session.id else come(db, one)
        for one in ends
    ]
    more = sorted(now - seen, key=lambda id: int(id[1:]))
    able = [f"{some(more)} {'is' if len(more) == 1 else 'are'} ready"] if more else []
    others = [f"{one.word}: {one.text}" for one in found if one.seat != session.seat]
    wakes = mine or "run-draining" in {one.kind for one in found}
    wakes = wakes or (others or able if session.role == PLANNER else able and board.claim_of(db, session.id) is None)
    return bool(wakes), [*mine, *able, *others[-OTHERS:]], newest(db), now
