"""A seat: claim → workspace → session → submit → next."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

import anyio

from agents import tools
from agents.attempts import Wait, ask
from agents.context import ASK_FOR_SUMMARY
from agents.hands import Hands
from agents.models.base import Reply, Request, Text, ToolSpec
from agents.models.choose import account
from agents.models.failures import ModelFailure
from agents.session import Mind, Outcome, converse
from agents.team import End
from orchestrator import board, ramp, workspace
from orchestrator.briefing import opening
from orchestrator.desk import Desk, Seat
from orchestrator.ledger import SPENT, SessionMeter
from orchestrator.quarantine import Refused
from orchestrator.records import Session, SessionState
from orchestrator.signals import unwrapped
from orchestrator.store import Tx, sessions, tasks
from orchestrator.store.rows import update
from orchestrator.transcript import StoredLog
from orchestrator.verbs import Verbs
from orchestrator.workspace import Kind
from sandbox.room import MIB, Labels, Mount, Room, RoomDied, RoomError, RoomSpec

CHECKPOINT_EVERY_S: Final = 180.0
CHECKPOINT_LIMIT: Final = 256 * MIB
IN_FLIGHT: Final = 32  # requests at once for each account
BACKOFF_S: Final = (5.0, 30.0, 120.0, 600.0)
DEAD_ROOMS: Final = 3  # in one session
WARN_SHARE: Final = 0.8
MONEY_LOW: Final = "80 % of this session's money is spent: submit what is whole, or note and release."


async def work(seat: Seat, desk: Desk) -> None:
    """Takes one session after another until the run drains. A crash of ours is told, waited out and gone on from."""
    crashes = 0
    while not desk.stopping:
        try:
            session = await next_session(seat, desk)
            if session is None:
                return
            if not await live(seat, desk, session):
                return
            crashes = 0
        except (ModelFailure, RoomError, Refused, workspace.Unpacked, OSError) as error:
            wait_s = BACKOFF_S[min(crashes, len(BACKOFF_S) - 1)]
            crashes += 1
            await desk.journal("seat-crashed", seat.name, error=f"{type(error).__name__}: {error}"[:500], wait_s=wait_s)
            await anyio.sleep(wait_s)


async def next_session(seat: Seat, desk: Desk) -> Session | None:
    """The seat's unfinished session, else a new one as soon as there is work for it. None once the run drains."""
    idle = ""
    while True:
        heard = desk.board_changed.heard
        unfinished = await desk.store.read(lambda db: [s for s in sessions.live(db) if s.seat == seat.name])
        if unfinished:
            return unfinished[0]
        if desk.draining:
            return None
        begun = "the run is paused" if desk.paused else await begin(seat, desk)
        if isinstance(begun, Session):
            return begun
        if begun != idle:
            await desk.journal("seat-idle", seat.name, reason=begun)
            idle = begun
        await desk.board_changed.wait(heard)


async def begin(seat: Seat, desk: Desk, *, open_token: str = "") -> Session | str:
    """Starts a session: its row, its claim where tasks are handed out, and what it is told are one transaction.

    Returns why not, in words, when the ramp leaves the seat idle. A person or program that takes an open seat is let
    in and meets the ramp when it claims.
    """
    main = await desk.repository.main()
    card = await desk.gate.judge_main()
    prompt = desk.prompts[seat.role]
    specs = json.dumps(
        [asdict(spec) | {"schema": dict(spec.schema)} for spec in tools.specs(seat.role)], sort_keys=True
    )

    def work(tx: Tx) -> Session | str:
        live = {session.seat: session.id for session in sessions.live(tx.db)}
        roles, best = {one.name: one.role for one in desk.seats}, ""
        if not open_token:
            try:
                best = ramp.next_task(tx.db, seat.name, roles, live, any_case_passes=bool(card.passed()))
            except board.Refused as idle:
                return str(idle)
            if seat.role == ramp.PLANNER and not _news_for_planner(tx, seat.name):
                return "nothing has landed, bounced or been released since its last session"
        number = sessions.next_number(tx, seat.name)
        session = Session(
            id=f"{seat.name}/{number}",
            seat=seat.name,
            number=number,
            role=seat.role,
            model=seat.model,
            state=SessionState.ACTIVE,
            started=tx.now,
            base=main,
            system=tx.keep(prompt),
            tools=tx.keep(specs),
            open_seat=bool(open_token),
        )
        landed = landed_since(tx, seat.name)
        sessions.start(tx, session, open_token)
        task = None
        if desk.project.planned and best:
            board.claim(tx, best, session.id)
            task = board.get(tx.db, best)
        text = opening(tx.db, desk, session, task, card, landed)
        update(tx, "session", session.id, opening=tx.keep(text))
        return sessions.get(tx.db, session.id)

    begun = await desk.store.write(work)
    if isinstance(begun, Session):
        desk.board_changed.ring()
    return begun


def _news_for_planner(tx: Tx, seat: str) -> bool:
    """Whether the board can look different to a planner than at the end of its last session."""
    row = tx.one("SELECT max(seq) AS seq FROM journal WHERE kind = 'session-ended' AND seat = ?", seat)
    if row is None or row["seq"] is None:
        return True
    sql = "SELECT 1 FROM journal WHERE seq > ? AND kind IN ('landed', 'bounced', 'released', 'task-closed') LIMIT 1"
    return tx.one(sql, row["seq"]) is not None


def landed_since(tx: Tx, seat: str) -> list[str]:
    """One line for each change that landed since the seat's last session began."""
    row = tx.one("SELECT max(started) AS started FROM session WHERE seat = ?", seat)
    since = (row["started"] if row else None) or ""
    rows = tx.all("SELECT * FROM change WHERE state = 'landed' AND ended > ? ORDER BY ended", since)
    return [f"{row['id']} {row['seat']}: {row['summary'].strip().splitlines()[0][:100]}" for row in rows]


async def live(seat: Seat, desk: Desk, session: Session) -> bool:
    """One session to its end, or to the stored turn at which the run stops; a dead room is rebuilt on the way.

    Returns whether the seat goes on. A session that the run's budget cannot hold goes on once while the team drains.
    """
    log = await StoredLog.load(desk.store, session)
    await desk.journal("session-continued", seat.name, session=session.id, doing=f"turn {log.turn}")
    mind = await mind_of(seat, desk, session, log)
    allowance = SessionAllowance(desk, session)
    for lives in range(DEAD_ROOMS):
        try:
            async with room_of(seat, desk, session) as (room, news), checkpoints(desk, session, room):
                if news:
                    await log.say(news)
                hands = Hands(room, desk.project.command_s)
                outcome = await converse(log, mind, hands, Verbs(desk, session, room), allowance)
                await checkpoint(desk, session, room)
            break
        except RoomDied as death:
            await desk.journal("room-lost", seat.name, session=session.id, reason=str(death)[:300])
            log = await StoredLog.load(desk.store, session)
            if lives == DEAD_ROOMS - 1:
                outcome = Outcome(End.CRASHED, f"its room died {DEAD_ROOMS} times: {death}")
    if outcome.end is End.DRAINED:
        return False  # the session stays live: a resume goes on at this turn
    if outcome.end is End.BUDGET and outcome.reason.startswith(SPENT.format("run")):
        again = not desk.draining
        desk.broke = outcome.reason
        while not desk.draining:
            await desk.state_changed.wait(desk.state_changed.heard)
        return again
    await end(desk, session, outcome)
    return True


async def end(desk: Desk, session: Session, outcome: Outcome) -> None:
    """Ends a session: its claim, its room's workspace, and word to the board."""

    def work(tx: Tx) -> None:
        if tasks.claim_of(tx.db, session.id):
            board.release(tx, session.id, f"its session ended: {outcome.end}", gave_up=outcome.end is not End.LANDED)
        sessions.end(tx, session.id, outcome.end, outcome.reason)

    await desk.store.write(work)
    await desk.engine.discard(desk.rooms / session.seat)
    desk.board_changed.ring()


async def mind_of(seat: Seat, desk: Desk, session: Session, log: StoredLog) -> Mind:
    """Who thinks in this session, as it was pinned at its start."""
    model = desk.models[session.model]
    limiter = desk.accounts.setdefault(account(session.model), anyio.CapacityLimiter(IN_FLIGHT))

    def read(tx: Tx) -> tuple[str, str]:
        return tx.payload(session.system).decode(), tx.payload(session.tools).decode()

    system, specs = await desk.store.write(read)

    summary = False  # whether the request in flight asks for one, which is no turn
    warned = any(MONEY_LOW in line for turn in log.transcript().turns for line in turn.said)

    def also(tx: Tx, reply: Reply) -> None:
        nonlocal warned
        if not summary:
            sessions.store_reply(tx, session.id, log.turn + 1, reply)
        if not warned and desk.ledger.spent_share(tx.db, session.id) >= WARN_SHARE:
            warned = True
            sessions.say(tx, session.id, "run", MONEY_LOW)

    meter = SessionMeter(desk.ledger, desk.store, session.id, session.model, lambda: log.turn + 1, also)

    async def on_wait(wait: Wait | None) -> None:
        why = wait.reason if wait else ""
        seconds = wait.seconds if wait else None
        await desk.journal("waiting", seat.name, who=session.id, why=why, until=seconds)

    async def ask_model(request: Request) -> Reply:
        nonlocal summary
        while desk.held and not desk.stopping:
            await desk.state_changed.wait(desk.state_changed.heard)
        summary = request.messages[-1].blocks[-1] == Text(ASK_FOR_SUMMARY)
        return await ask(model, request, meter, limiter, on_wait)

    pinned = tuple(ToolSpec(**spec) for spec in json.loads(specs))
    return Mind(session.role, system, pinned, model.window, ask_model)


class SessionAllowance:
    """What a session may still use: nothing once the run stops, else its share of money."""

    def __init__(self, desk: Desk, session: Session) -> None:
        self._desk = desk
        self._session = session

    def over(self, turns: int) -> Outcome | None:
        if self._desk.stopping:
            return Outcome(End.DRAINED, self._desk.draining)
        return None


def spec_of(seat: Seat, desk: Desk, session: Session) -> RoomSpec:
    folder = desk.folder
    shown = tuple(Mount(path, f"/sources/{name}") for name, path in desk.sources.items())
    mounts = (
        Mount(folder / "team", "/team"),
        Mount(folder / "public.git", "/team/main.git"),
        Mount(folder / "current_tasks", "/team/current_tasks"),
        *shown,
    )
    return RoomSpec(
        name=room_name(session),
        labels=Labels(desk.label, desk.store.epoch, seat.name, session.id),
        root=desk.root,
        workspace=desk.rooms / seat.name,
        mounts=mounts,
        env={"HOME": "/tmp", "LANG": "C.UTF-8"},
        limits=desk.project.limits,
        user=seat.user,
    )


@asynccontextmanager
async def room_of(seat: Seat, desk: Desk, session: Session) -> AsyncIterator[tuple[Room, str]]:
    """The session's room with its workspace, and what the session must be told of it ("" when it is as it left it)."""
    spec = spec_of(seat, desk, session)
    assert spec.workspace is not None
    room = await desk.engine.open(spec)
    try:
        yield room, await lay_workspace(desk, session, room)
    finally:
        with anyio.CancelScope(shield=True):
            await room.stop()


async def lay_workspace(desk: Desk, session: Session, room: Room) -> str:
    """Makes the workspace unless it is there: from the session's checkpoint if it has one, else at main."""
    if (await room.run(workspace.is_there())).ok:
        return ""
    origin = workspace.ORIGIN if desk.root else str(desk.folder / "public.git")  # `local` mounts nothing
    saved = await desk.repository.checkpoint(room_name(session))
    if saved is None:
        command = workspace.fresh(session.seat, origin)
    else:
        command = workspace.restore(session.seat, saved, desk.repository.checkpoint_pack(saved), origin)
    made = await room.run(command)
    if not made.ok:
        raise RoomError(f"no workspace could be made: {made.stderr.decode('utf-8', 'replace')[-300:]}")
    if saved is not None:
        return "The sandbox died and was rebuilt from your last checkpoint: later changes to files, and jobs, are gone."
    begun = await desk.store.read(lambda db: sessions.get(db, session.id).turns)
    if not begun and desk.root is None:
        return f"This sandbox isolates nothing: /workspace is your current folder, /team is {desk.folder / 'team'}."
    return "The sandbox died before its first checkpoint: your workspace is a fresh copy of main." if begun else ""


@asynccontextmanager
async def checkpoints(desk: Desk, session: Session, room: Room) -> AsyncIterator[None]:
    """Saves the workspace every few minutes while the context lasts."""

    async def keep() -> None:
        while True:
            await anyio.sleep(CHECKPOINT_EVERY_S)
            await checkpoint(desk, session, room)

    with unwrapped():
        async with anyio.create_task_group() as beside:
            beside.start_soon(keep)
            yield
            beside.cancel_scope.cancel()


async def checkpoint(desk: Desk, session: Session, room: Room) -> None:
    """Saves the workspace at refs/checkpoints; what cannot be packed is told in the journal and tried again later."""
    try:
        stream = workspace.packed(await room.run(workspace.pack(Kind.CHECKPOINT, CHECKPOINT_LIMIT)))
        await desk.repository.receive_checkpoint(stream, room_name(session))
    except (workspace.Unpacked, Refused) as refusal:
        await desk.journal(
            "attempt-failed", session.seat, session=session.id, turn=0, failure=f"checkpoint: {refusal}", wait_s=0
        )


def room_name(session: Session) -> str:
    """Also of its checkpoints."""
    return session.id.replace("/", "-")
