"""Recorded seats: what the sessions of a finished team did is done again, in real rooms, through the real gate.

Sessions are dealt to the seats there are; each keeps its id, which names the seat that it had.
"""

import base64
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio

from agents.hands import Hands
from agents.models.base import Reply, Stop, ToolCall, Usage
from agents.models.choose import RECORDED
from agents.session import Outcome, Pending, act
from agents.tools import Answer, BadArguments, End, InRoom, Later, check
from orchestrator import board, workspace
from orchestrator.desk import Desk, Seat
from orchestrator.recording import Step
from orchestrator.records import Session, SessionState
from orchestrator.replay import SKIPPED, Played, Replay
from orchestrator.seat import end, live, look
from orchestrator.store import Tx, changes, rows, sessions
from orchestrator.store.sessions import StoredLog
from orchestrator.verbs import Verbs
from sandbox.room import Room, RoomDied

REDONE: Final = 8  # times that a session is done again before its seat says that it cannot
PATIENCE: Final = 10.0  # times what it was allowed, for a call that did not run out of time in the recorded run
JOB_S, LOOK_S = 60.0, 0.5  # for a job to do what it had done when the recorded run looked


class _Redo(Exception):
    """The workspace is not what it should be: the session's calls are run again from its starting tree."""


@dataclass
class _Playing:
    session: Session
    played: Played
    fresh: bool = False  # its workspace was made anew, and not all of its calls so far have been run there
    again: int = 0  # of these, how many have
    full: bool = False  # it turned out that what was left out is needed
    whole: bool = False  # its room has what it had in the recording outside of the workspace: a script in /tmp, a job
    room_for: str = ""  # the call for which its room was opened anew
    rested: bool = False  # its room is opened for that now
    redone: int = 0

    def rests(self, step: Step) -> bool:
        """Whether its room has to be opened anew before a call, as it was in the recording."""
        rests = step.rested and self.room_for != step.id
        if rests:
            self.room_for, self.rested = step.id, True
        return rests

    def redo(self, *, full: bool = False) -> _Redo:
        self.fresh, self.again, self.full = True, 0, self.full or full
        self.room_for, self.rested, self.redone = "", False, self.redone + 1
        return _Redo()


class RecordedSeats:
    """Deals a recording's sessions to seats."""

    def __init__(self, desk: Desk, replay: Replay) -> None:
        self._desk, self._replay = desk, replay
        self._dealt: set[str] = set()

    def hosts(self) -> Iterator[Seat]:
        """The seats, some more than once where more sessions lived at once than there are seats."""
        seats = self._desk.seats
        for number in range(max(len(seats), self._replay.most)):
            yield seats[number % len(seats)]

    async def work(self, seat: Seat) -> bool:
        """The seat's next session, to its end. Returns whether there may be another."""
        desk, replay = self._desk, self._replay
        known = {one.id: one for one in await desk.store.read(lambda db: rows.find(db, Session))}
        mine = [id for id, one in known.items() if one.seat == seat.name and one.state is not SessionState.ENDED]
        waiting = [*mine, *(id for id in replay.sessions if id not in known)]
        id = next((id for id in waiting if id not in self._dealt), None)
        if id is None:
            await desk.journal("seat-idle", seat.name, reason="the recording has no other session")
        if id is None or desk.stopping:
            return False
        self._dealt.add(id)
        replay.busy += 1
        try:
            return await self._session(seat, replay.sessions[id], known.get(id))
        except BaseException:
            self._dealt.discard(id)
            raise
        finally:
            replay.busy -= 1

    async def _session(self, seat: Seat, played: Played, session: Session | None) -> bool:
        desk, replay = self._desk, self._replay
        if session is None:
            await desk.journal("seat-idle", seat.name, reason="the recording's next session has not begun")
            await replay.hold(played.start)
            if desk.stopping or replay.broken:
                return False
            session = await self._begin(seat, played.start)
        playing = _Playing(session, played, full=replay.full)
        while True:
            await replay.reach(played.start)
            await replay.show(session.id, played.start.main)
            try:
                outcome = await live(seat, desk, session, partial(self._drive, playing))
                if outcome.end is not End.ASIDE:
                    break
            except _Redo:
                if playing.redone > REDONE:
                    raise RoomDied(f"{session.id} could not be done again {REDONE} times") from None
                await desk.engine.discard(desk.workspace(session))
        if outcome.end is End.DRAINED:
            return not desk.stopping
        await end(desk, session, outcome)
        return True

    async def _begin(self, seat: Seat, step: Step) -> Session:
        desk = self._desk

        def start(tx: Tx) -> Session:
            session = Session(
                id=step.id,
                seat=seat.name,
                number=rows.next_number(tx, "session", "WHERE seat = ?", seat.name),
                role=step.role,
                model=RECORDED,
                state=SessionState.ACTIVE,
                started=tx.now,
                base=self._replay.main(step.main),
            )
            sessions.start(tx, session)
            if step.task:
                board.claim(tx, step.task, session.id)
            return session

        return await desk.store.write(start)

    # -- in its room

    async def _drive(self, playing: _Playing, log: StoredLog, hands: Hands, verbs: Verbs) -> Outcome:
        """Does one recorded call after another, from the last stored one on."""
        replay, played = self._replay, playing.played
        rested, playing.rested = playing.rested, False
        playing.whole = rested or not log.transcript.turns
        if log.transcript.turns and not await self._restored(playing, log, hands, rested):
            return Outcome(End.ASIDE)
        while not (self._desk.stopping or replay.broken):
            turns = log.transcript.turns
            if turns and turns[-1].end is not None:
                if played.end:
                    await replay.hold(played.end)
                return Outcome(turns[-1].end, turns[-1].results[-1].text.partition("\n")[0])
            if log.pending:
                if playing.rests(replay.calls[log.pending[0].key]):
                    return Outcome(End.ASIDE)
                try:
                    await self._call(playing, log.pending[0], log, hands, verbs)
                except Later:
                    log = await self._answered(playing, log, hands.room)
            elif len(turns) < len(played.turns):
                steps = played.turns[len(turns)]
                turn = {f"{playing.session.id}.{len(turns) + 1}.{number}" for number in range(len(steps))}
                if lacking := turn - {step.id for step in steps}:
                    await replay.diverged(steps[-1], f"{min(lacking)} is not in the recording", over=True)
                    break
                calls = tuple(ToolCall("", step.tool, step.arguments) for step in steps)
                await log.store_reply(Reply(calls, Stop.TOOLS, Usage(), RECORDED))
            elif played.end is None:
                break  # it lived on when the recorded run was over
            else:
                await replay.hold(played.end)
                return Outcome(End(played.end.kind), "as recorded")
        return Outcome(End.DRAINED)

    async def _call(self, playing: _Playing, pending: Pending, log: StoredLog, hands: Hands, verbs: Verbs) -> None:
        replay, session, step = self._replay, playing.session, self._replay.calls[pending.key]
        await replay.hold(step)
        if self._desk.stopping or replay.broken:
            return
        if self._left_out(playing, step):
            await log.finish(pending, Answer(SKIPPED, refused=step.kind != "ok", how=step.kind))
        else:
            if step.in_room:
                await replay.show(session.id, step.main)
            if step.left:
                restored = await self._restore(step, hands.room)
                await log.finish(replace(pending, running=True), Answer(f"restored: {restored}", how=step.kind))
            else:
                hands.patience = _patience(step)
                await act(replace(pending, running=False), log, session.role, hands, verbs)
            await self._compare(playing, step, hands.room)
        self._desk.changed.ring()

    async def _answered(self, playing: _Playing, log: StoredLog, room: Room) -> StoredLog:
        """The log once the gate has stored what a submission came to, or the seat may hand in another change."""
        desk, call = self._desk, log.pending[0].key
        async for _ in desk.changed.rings():

            def over(db: sqlite3.Connection) -> bool:
                seat = board.seat_of(playing.session.id)
                return not any(change.call == call or change.seat == seat for change in changes.live(db))

            if desk.stopping or self._replay.broken or await desk.store.read(over):
                break
        return await StoredLog.load(desk.store, playing.session, partial(look, desk, playing.session, room))

    def _left_out(self, playing: _Playing, step: Step) -> bool:
        """Whether a replay can do without the call: it changed nothing that anybody sees."""
        if step.kind == "interrupted" and not step.moved:
            return True
        if step.kind == "timeout" and not step.moved and not self._replay.full:
            return True  # by how busy the machine was then; also where its session is done again in full
        if playing.full or step.left:
            return False
        return step.tool in ("tasks", "verify") or (step.in_room and step.id not in playing.played.needed)

    async def _compare(self, playing: _Playing, step: Step, room: Room) -> None:
        """Says where a call came out otherwise; where its room may lack what an earlier call left in it, not without
        having done all of them there."""
        sql = "SELECT kind, tree FROM call WHERE id = ?"
        kind, tree = await self._desk.store.read(lambda db: tuple(db.execute(sql, (step.id,)).fetchone()))
        same_tree = _same(tree, step.tree)
        jobs = [job for job in playing.played.jobs(step) if not self._left_out(playing, job)]
        if kind == step.kind and not same_tree and jobs:
            came = await self._job_came_as_far(step, room)
            # Where it has gone on from there, it was chance how far it was.
            if came or step.arguments.get("background"):
                return
        if kind == step.kind and same_tree:
            return
        if step.in_room and not (playing.full and playing.whole):
            raise playing.redo(full=True)
        await self._replay.diverged(
            step, kind if same_tree else f"{kind}, its tree is {tree[:10]} and was {step.tree[:10]}"
        )

    async def _job_came_as_far(self, step: Step, room: Room) -> bool:
        """Whether a job leaves in the workspace, in a while, what it had left there when the recorded run looked."""
        with anyio.move_on_after(JOB_S):
            while not _same((sight := await workspace.seen(room.run)).tree, step.tree):  # noqa: ASYNC110 - rings no bell
                await anyio.sleep(LOOK_S)
            now = {"tree": sight.tree, "stamp": sight.stamp}
            await self._desk.store.write(lambda tx: rows.update(tx, "call", step.id, **now))
            return True
        return False

    # -- a workspace made again

    async def _restored(self, playing: _Playing, log: StoredLog, hands: Hands, rested: bool) -> bool:
        """Makes sure that the workspace is what the finished calls left. Raises `_Redo` where it is not, to begin from
        the starting tree; then runs them there, where verbs keep the results that they had. Returns False where those
        that are left need a room opened anew."""
        if not playing.fresh:
            if rested or await self._there(log, hands.room):
                return True
            raise playing.redo()
        if playing.again and not rested:
            raise playing.redo()  # its room has died on the way
        turns = zip(playing.played.turns, log.transcript.turns, strict=False)
        done = [step for calls, turn in turns for step in calls[: len(turn.results)]]
        ran: tuple[Step, str] | None = None
        for number, step in enumerate(done[playing.again :], playing.again):
            if playing.rests(step):
                break
            playing.again = number + 1
            if step.in_room and not self._left_out(playing, step):
                ran = step, await self._run_again(playing, step, hands, number)
        playing.fresh, playing.whole = playing.rested, True
        if ran:
            await self._correct(playing, *ran, hands.room)
        return not playing.fresh

    async def _there(self, log: StoredLog, room: Room) -> bool:
        """Whether the workspace is as the last call left it that has run, which came out as recorded."""
        if log.pending and log.pending[0].running and self._replay.calls[log.pending[0].key].in_room:
            return False
        sight, last = await workspace.seen(room.run), await self._desk.store.read(log.last_seen)
        if last is None:
            return True  # none of them has run
        id, kind, tree, stamp = last
        step = self._replay.calls[id]
        return (stamp, kind) == (sight.stamp, step.kind) and _same(tree, step.tree)

    async def _run_again(self, playing: _Playing, step: Step, hands: Hands, number: int) -> str:
        """What kind of result it has."""
        await self._replay.show(playing.session.id, step.main)
        if step.left:
            await self._restore(step, hands.room)
            return step.kind
        try:
            arguments = check(playing.session.role, step.tool, step.arguments)
        except BadArguments:
            return step.kind
        assert isinstance(arguments, InRoom)
        hands.patience = _patience(step)
        return (await hands.do(arguments, number)).kind

    async def _restore(self, step: Step, room: Room) -> bool:
        assert step.left
        commit, pack = step.left
        return (await room.run(workspace.restored(commit, base64.b64decode(pack)))).ok

    async def _correct(self, playing: _Playing, step: Step, kind: str, room: Room) -> None:
        """Stores what the last call came to when everything before it was there."""
        sight = await workspace.seen(room.run)
        now = {"kind": kind, "tree": sight.tree, "stamp": sight.stamp}
        await self._desk.store.write(lambda tx: rows.update(tx, "call", step.id, **now))
        await self._compare(playing, step, room)


def _patience(step: Step) -> float:
    """What came to an end in the recorded run is given the time for it; a look at a job that went on is only a look."""
    ended = step.kind != "timeout" if step.tool == "shell" else step.kind != "ok" or step.moved
    return PATIENCE if ended else 1.0


def _same(tree: str, recorded: str) -> bool:
    """Of two trees, as far as both are known."""
    return tree == recorded or not (tree and recorded)
