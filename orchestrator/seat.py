"""A seat: claim → workspace → session → submit → next."""

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import structlog

from agents import tools
from agents.attempts import ask
from agents.context import ASK_FOR_SUMMARY
from agents.hands import Hands
from agents.models.base import Reply, Request, Text, ToolSpec
from agents.models.choose import account
from agents.session import Mind, Outcome, converse
from agents.tools import Answer, End
from orchestrator import board, ramp, workspace
from orchestrator.briefing import opening
from orchestrator.desk import Desk, Seat
from orchestrator.excused import flaky
from orchestrator.keeping import checkpoint, keep_work, put_kept, room_name, words
from orchestrator.ledger import SPENT, Ruler, SessionMeter
from orchestrator.prices import unmetered
from orchestrator.records import Session, SessionState
from orchestrator.repository import ForeignMain
from orchestrator.store import StoreError, Tx, changes, rows, sessions
from orchestrator.store.sessions import StoredLog
from orchestrator.store.store import read_payload
from orchestrator.verbs import Verbs
from sandbox import faults
from sandbox.room import Labels, Mount, Room, RoomDied, RoomError, RoomSpec

log = structlog.get_logger()
CHECKPOINT_EVERY_S: Final = 180.0
IN_FLIGHT: Final = 32  # requests at once for each account
RESTS: Final = (End.WAITING, End.ASIDE, End.DRAINED)
BACKOFF_S: Final = (5.0, 30.0, 120.0, 600.0)
CUT_SHORT: Final = ("interrupted", "timeout", "killed")
DEAD_ROOMS: Final = 3  # in one session
WARN_SHARE: Final = 0.8
MONEY_LOW: Final = "80 % of this session's money is spent: submit what is whole, or note and release."

Drive = Callable[[StoredLog, Hands, Verbs], Awaitable[Outcome]]
"""Goes on with a session in a room, from its last stored turn to its end."""


async def again(seat: Seat, desk: Desk, step: Callable[[], Awaitable[bool]]) -> None:
    """Takes one step after another until one says no. A crash of ours is told, waited out and gone on from."""
    crashes = 0
    desk.working.append(seat)
    try:
        while not desk.stopping:
            try:
                if not await step():
                    return
                crashes = 0
            except (StoreError, ForeignMain):
                raise
            except Exception as error:
                log.error("seat crashed", seat=seat.name, exc_info=error)
                wait_s = BACKOFF_S[min(crashes, len(BACKOFF_S) - 1)]
                crashes += 1
                told = f"{type(error).__name__}: {error}"[:500]
                await desk.journal("seat-crashed", seat.name, error=told, wait_s=wait_s)
                await anyio.sleep(wait_s)
    finally:
        desk.working.remove(seat)
        desk.changed.ring()


async def work(seat: Seat, desk: Desk) -> bool:
    """One session of a seat that a model fills, to its end, to the verdict it waits for, or to the stored turn at which
    it is put aside or the run stops.

    Returns whether the seat goes on. A session that the run's budget cannot hold goes on once while the team drains.
    """
    session = await next_session(seat, desk)
    if session is None:
        return False
    await desk.journal("session-continued", seat.name, session=session.id, doing=f"turn {session.turns}")
    outcome = await live(seat, desk, session, partial(think, desk, session))
    if desk.stopping and outcome.end is End.DRAINED:
        return False  # the session stays live: a resume goes on at this turn
    if outcome.end in RESTS:
        await rest(desk, session)
        return True
    if outcome.end is End.BUDGET and outcome.reason.startswith(SPENT.format("run")):
        goes_on = not desk.draining
        desk.broke = outcome.reason
        await desk.changed.until(lambda: bool(desk.draining))
        return goes_on
    await end(desk, session, outcome)
    return True


async def next_session(seat: Seat, desk: Desk) -> Session | None:
    """The seat's unfinished session, else a new one as soon as there is work for it. None once the run drains.

    A seat has two at most: one that waits for the verdict on its change, or repairs it, and one that goes on meanwhile.
    """
    idle, live = "", None
    async for _ in desk.changed.rings():
        if live is None or live:  # only here does it get another
            live = await desk.store.read(partial(sessions_of, seat=seat.name))
        if able := [session for session, rests in live if not rests]:
            return await take_up(desk, able[0])
        if desk.draining:
            if live and not desk.stopping:
                continue  # its changes are still judged, and may come back
            break
        try:
            if desk.paused:
                raise board.Refused("the run is paused")
            if len(live) > 1:
                raise board.Refused(f"{live[0][0].id} and {live[1][0].id} wait for the gate")
            return await begin_in_order(seat, desk)
        except board.Refused as why:
            if str(why) != idle:
                idle = str(why)
                await desk.journal("seat-idle", seat.name, reason=idle)
    return None


def sessions_of(db: sqlite3.Connection, seat: str) -> list[tuple[Session, bool]]:
    """The seat's live sessions, oldest first, and whether each rests: while a change of the seat is judged, one that
    has submitted it or wants to submit another does."""
    live = rows.find(db, Session, "WHERE seat = ? AND state <> 'ended' ORDER BY number", seat)
    judged = bool(live) and any(change.seat == seat for change in changes.live(db))
    return [(one, judged and one.state is SessionState.WAITING) for one in live]


async def take_up(desk: Desk, session: Session) -> Session:
    desk.gate.returned.pop(session.seat, None)
    if session.state is SessionState.WAITING:
        session = replace(session, state=SessionState.ACTIVE)
        await desk.store.write(lambda tx: rows.update(tx, "session", session.id, state=session.state))
    return session


async def rest(desk: Desk, session: Session) -> None:
    """Leaves a session whose room is closed; it hears of that when it goes on."""
    await desk.store.write(lambda tx: sessions.say(tx, session.id, "run", sessions.RESTED))


def put_aside(desk: Desk, session: Session) -> bool:
    """Whether an earlier session of the seat goes first, because its change came back."""
    return desk.gate.returned.get(session.seat, session.id) != session.id


async def begin_in_order(seat: Seat, desk: Desk) -> Session:
    """`begin`, without a look at the board where an earlier seat of the kind has just been refused: the ramp serves
    them in their order, so a change that wakes a thousand idle seats is looked at once. Raises `board.Refused`."""
    if seat.role == ramp.PLANNER:
        return await begin(seat, desk)
    async with desk.beginning:
        rung, (seen, first, why) = desk.changed.rung, desk.refused
        if seen == rung and first <= seat.user:
            raise board.Refused(why)
        try:
            return await begin(seat, desk)
        except board.Refused as refusal:
            desk.refused = rung, seat.user, str(refusal)
            raise


async def begin(seat: Seat, desk: Desk, *, open_token: str = "") -> Session:
    """Starts a session: its row, its claim where tasks are handed out, and what it is told are one transaction.

    Raises `board.Refused` when the ramp leaves the seat idle. A person or program that takes an open seat is let in and
    meets the ramp when it claims.
    """
    await sweep(seat, desk)
    main = await desk.repository.main()
    card, passing, kept = await desk.gate.judge_main(), await desk.begun(), await desk.repository.kept()
    schemas = json.dumps([vars(spec) for spec in tools.specs(seat.role)], sort_keys=True, default=dict)
    budget = desk.settings.session_budget
    left = "not limited" if budget is None or unmetered(seat.model) else f"{budget / 1e6:.2f} USD"

    def start(tx: Tx) -> Session:
        roles = {one.name: one.role for one in desk.seats}
        sql = "SELECT seat, id FROM session WHERE state <> 'ended' AND state = ?"  # as the index has it
        working = dict(tx.db.execute(sql, (SessionState.ACTIVE,)).fetchall())
        judged = [change for change in changes.live(tx.db) if change.seat == seat.name]
        if judged and not passing:
            raise board.Refused(f"no case passes yet, and {judged[0].id} is being judged")
        best = "" if open_token else ramp.next_task(tx.db, seat.name, roles, working, any_case_passes=passing)
        task = board.get(tx.db, best) if "planner" in desk.frozen.project.roles and best else None
        number = rows.next_number(tx, "session", "WHERE seat = ?", seat.name)
        session = Session(
            id=f"{seat.name}/{number}",
            seat=seat.name,
            number=number,
            role=seat.role,
            model=seat.model,
            state=SessionState.ACTIVE,
            started=tx.now,
            base=main,
            system=tx.keep(desk.frozen.prompts[seat.role]),
            tools=tx.keep(schemas),
            open_seat=bool(open_token),
            token=open_token,
        )
        told = opening(tx, session, task, counts=card.counts(flaky(tx.db)), others=desk.settings.agents - 1, left=left)
        earlier = words(task.id, kept.get(task.id, "")) if task else ""
        session = replace(session, opening=tx.keep(f"{told}\n{earlier}".strip()))
        sessions.start(tx, session)
        if task:
            board.claim(tx, task.id, session.id)
        return session

    session = await desk.store.write(start)
    faults.at("session-begun")
    return session


async def end(desk: Desk, session: Session, outcome: Outcome) -> None:
    """Ends a session: its claim, its room's workspace, and word to the board. What it has not landed is kept."""
    if outcome.end is not End.LANDED:
        await keep_work(desk, session, f"{outcome.end}: {outcome.reason}")

    def close(tx: Tx) -> None:
        if board.claim_of(tx.db, session.id):
            board.release(tx, session.id, f"its session ended: {outcome.end}", gave_up=outcome.end is not End.LANDED)
        sessions.end(tx, session.id, outcome.end, outcome.reason)

    await desk.store.write(close)
    faults.at("session-ended")
    await desk.engine.discard(desk.workspace(session))
    desk.changed.ring()


async def sweep(seat: Seat, desk: Desk) -> None:
    """Takes away the workspaces of sessions that a landing ended while they waited."""
    live = {room_name(session) for session, _ in await desk.store.read(partial(sessions_of, seat=seat.name))}
    async for folder in anyio.Path(desk.rooms).glob(f"{seat.name}-*"):
        if folder.name not in live and await folder.is_dir():
            await desk.engine.discard(desk.rooms / folder.name)


async def live(seat: Seat, desk: Desk, session: Session, drive: Drive) -> Outcome:
    """A session in its room, for as long as `drive` goes on; a room that dies is rebuilt on the way."""
    desk.changed.ring()  # it may just have begun, with a claim
    for lives in range(1, DEAD_ROOMS + 1):
        try:
            async with room_of(seat, desk, session) as room:
                log = await StoredLog.load(desk.store, session, partial(look, desk, session, room))
                hands = Hands(room, desk.frozen.project.limits.command)
                outcome = await drive(log, hands, Verbs(desk, session, room))
                if desk.replay and outcome.end not in (*RESTS, End.LANDED, End.RELEASED):
                    await checkpoint(desk, session, room)  # of others the newest is made as the room closes
                return outcome
        except RoomDied as death:
            await desk.journal("room-lost", seat.name, session=session.id, reason=str(death)[:300])
            outcome = Outcome(End.CRASHED, f"its room died {lives} times: {death}")
    return outcome


# Who thinks


async def think(desk: Desk, session: Session, log: StoredLog, hands: Hands, verbs: Verbs) -> Outcome:
    """The session's model, prompt and tools as they were pinned at its start, in conversation until it ends."""
    model = desk.models[session.model]
    limiter = desk.accounts.setdefault(account(session.model), anyio.CapacityLimiter(IN_FLIGHT))
    ruler, pinned = Ruler(), [session.system, session.tools]
    system, specs = await desk.store.read(lambda db: [read_payload(db, digest).decode() for digest in pinned])

    async def on_wait(why: str, seconds: float | None) -> None:
        await desk.journal("waiting", session.seat, who=session.id, why=why, until=seconds)

    async def ask_model(request: Request) -> Reply:
        await desk.changed.until(lambda: desk.stopping or not desk.held)
        turn = log.turn + 1

        def also(tx: Tx, reply: Reply) -> None:
            if request.messages[-1].blocks[-1] != Text(ASK_FOR_SUMMARY):  # a summary is no turn
                log.paid(tx, reply)
            told = "SELECT 1 FROM message WHERE session = ? AND text = ?"
            low = desk.ledger.spent_share(tx.db, session.id) >= WARN_SHARE
            if low and tx.one(told, session.id, f"[run] {MONEY_LOW}") is None:
                sessions.say(tx, session.id, "run", MONEY_LOW)

        meter = SessionMeter(desk.ledger, desk.store, session.id, session.model, turn, also, ruler)
        return await ask(model, request, meter, limiter, on_wait)

    schemas = tuple(ToolSpec(**spec) for spec in json.loads(specs))
    mind = Mind(session.role, system, schemas, model.window, ask_model)
    return await converse(log, mind, hands, verbs, lambda: desk.stopping or put_aside(desk, session))


# The room and what is in it


@asynccontextmanager
async def room_of(seat: Seat, desk: Desk, session: Session) -> AsyncIterator[Room]:
    """The session's room with its workspace, which is saved every few minutes and at the end."""
    view = {
        "/team/main.git": main_of(desk, session),
        **({"/team/main.git/objects": desk.folder / "public.git/objects"} if desk.replay else {}),
    }
    mounts = {
        "/team": desk.folder / "team",
        **view,
        "/team/current_tasks": desk.folder / "current_tasks",
        **{f"/sources/{name}": path for name, path in desk.sources.items()},
    }
    spec = RoomSpec(
        name=room_name(session),
        labels=Labels(desk.label, desk.store.epoch, seat.name, session.id),
        root=desk.root,
        workspace=desk.workspace(session),
        mounts=tuple(Mount(path, inside) for inside, path in mounts.items()),
        env={"HOME": "/tmp", "LANG": "C.UTF-8"},
        limits=desk.frozen.project.limits.of_room(),
        user=seat.user,
    )
    room = await desk.engine.open(spec)
    faults.at("room-opened")

    async def keep_saving() -> None:
        while True:
            await anyio.sleep(CHECKPOINT_EVERY_S)
            await checkpoint(desk, session, room)

    try:
        await lay_workspace(desk, session, room)
        if held := await desk.store.read(partial(board.claim_of, session=session.id)):
            await put_kept(desk, session, room, held.task, anew=False)
        faults.at("workspace-laid")
        async with anyio.create_task_group() as beside:
            if not desk.replay:  # what a recorded session had is had by running its calls again
                beside.start_soon(keep_saving)
            yield room
            beside.cancel_scope.cancel()
        if not desk.replay:
            await checkpoint(desk, session, room)
    except BaseExceptionGroup as group:  # of the one exception in it callers can name what they catch
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await room.stop()


async def lay_workspace(desk: Desk, session: Session, room: Room) -> None:
    """Makes the workspace unless it is there, from the session's checkpoint if it has one, else at main; tells the
    session what it must know of it."""
    if (await room.run(workspace.is_there())).ok:
        return
    origin = workspace.ORIGIN if desk.root else str(main_of(desk, session))  # `local` mounts nothing
    saved = "" if desk.replay else await desk.repository.checkpoint(room_name(session))
    pack = desk.repository.checkpoint_pack(saved) if saved else b""
    made = await room.run(workspace.lay(session.seat, origin, saved, pack))
    if not made.ok:
        raise RoomError(f"no workspace could be made: {made.stderr.decode('utf-8', 'replace')[-300:]}")
    head = made.stdout.decode("utf-8", "replace").strip()  # main may have moved since the session began
    begun = await desk.store.write(lambda tx: sessions.laid(tx, session.id, head))
    if saved:
        news = "The sandbox died and was rebuilt from your last checkpoint: later changes to files, and jobs, are gone."
    elif begun:
        news = "The sandbox died before its first checkpoint: your workspace is a fresh copy of main."
    elif desk.root is None:
        news = f"This sandbox isolates nothing: /workspace is your current folder, /team is {desk.folder / 'team'}."
    else:
        return
    await desk.store.write(lambda tx: sessions.say(tx, session.id, "run", news))


def main_of(desk: Desk, session: Session) -> Path:
    """The repository from which a session fetches main."""
    return desk.replay.view(session.id) if desk.replay else desk.folder / "public.git"


async def look(desk: Desk, session: Session, room: Room, answer: Answer) -> workspace.Sight:
    """What a call has left in the workspace. Where nobody could do it again, its files are kept for a recording."""
    try:
        if answer.how in CUT_SHORT and not desk.replay:
            await checkpoint(desk, session, room)
        return await workspace.seen(room.run)
    except RoomError:  # the next call finds out; what this one answered stands
        return workspace.Sight()
