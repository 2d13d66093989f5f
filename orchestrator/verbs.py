"""The team's verbs for one session. A verb's effect and its answer are one transaction, under the call's id."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

import anyio

from agents.tools import Answer, End, Later, Plan
from orchestrator import board, clusters, quarantine, ramp, workspace
from orchestrator.board import Refused
from orchestrator.briefing import Show, describe
from orchestrator.desk import Desk
from orchestrator.keeping import checkpoint, keep_work, put_kept
from orchestrator.queue import Conflict, error_line
from orchestrator.records import Change, ChangeState, Session, SessionState, Task, TaskSource
from orchestrator.repository import Received
from orchestrator.store import Tx, changes, rows, sessions
from orchestrator.verdict import standing
from sandbox import faults
from sandbox.room import Room
from verifiers.scorecard import Scorecard, Selection, Tier, Verdict

ERRORS_SHOWN, GAINS_SHOWN = 10, 40
UNFINISHED: Final = "unfinished"  # how a submit ends that a replay refuses again
NO_CLAIM: Final = "you hold no task: call tasks, then claim one"


class Verbs:
    """`agents.tools.Team` for one session in its room. Each verb is the method of its name, behind `_`, and takes the
    call's id and the arguments of its class in `agents.tools`, which has checked that there is such a verb."""

    def __init__(self, desk: Desk, session: Session, room: Room) -> None:
        self._desk = desk
        self._session = session
        self._room = room

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        try:
            answer: Answer = await getattr(self, f"_{verb}")(call_id, **arguments)
            return answer
        except workspace.Unfinished as refusal:
            return Answer(f"not taken: {refusal}", refused=True, how=UNFINISHED)
        except quarantine.Refused as refusal:
            return Answer(f"not taken: {refusal}", refused=True)
        except (Refused, workspace.Unpacked) as refusal:
            return Answer(str(refusal), refused=True)

    async def _store(self, call_id: str, work: Callable[[Tx], str], end: End | None = None) -> Answer:
        """One transaction: the verb's effect, and its answer under the call's id."""

        def both(tx: Tx) -> Answer:
            sessions.begin_call(tx, call_id)
            return replace(sessions.finish_call(tx, call_id, Answer(work(tx), end=end)), stored=True)

        answer = await self._desk.store.write(both)
        faults.at("verb-stored")
        self._desk.changed.ring()
        return answer

    def _held(self, db: sqlite3.Connection) -> Task | None:
        """The task that the session works on."""
        held = board.claim_of(db, self._session.id)
        return None if held is None else board.get(db, held.task)

    # -- the board

    async def _release(self, call_id: str, reason: str, note: str) -> Answer:
        """What the workspace holds is kept before anybody else may take the task."""
        desk, session = self._desk, self._session
        kept = "no work kept"
        if await desk.store.read(self._held):
            stale = await checkpoint(desk, session, self._room)
            kept = await keep_work(desk, session, reason) + (f", as of some minutes ago: {stale}" if stale else "")

        def work(tx: Tx) -> str:
            waits = desk.replay is None and board.wait_for(tx, session.id, reason)
            return board.release(tx, session.id, reason, note, gave_up=not waits, kept=kept)

        return await self._store(call_id, work, End.RELEASED)

    async def _note(self, call_id: str, topic: str, text: str) -> Answer:
        return await self._store(call_id, lambda tx: board.leave_note(tx, self._session.id, topic, text))

    async def _tasks(self, call_id: str, show: str, limit: int) -> Answer:
        return Answer(await tasks(self._desk, self._session.id, show, limit))

    async def _claim(self, call_id: str, task: str, title: str, touches: Sequence[str], plan: str) -> Answer:
        self._as_recorded(call_id)
        new_rules, me = self._desk.replay is None, self._session.id
        begun = not new_rules or await self._desk.begun()
        kept = ""
        if task and not await self._holds(task):
            await self._desk.store.read(lambda db: board.claimable(db, task, me))  # others' work is for its owner alone
            kept = await put_kept(self._desk, self._session, self._room, task)

        def work(tx: Tx) -> str:
            if not begun:
                self._refuse_company(tx)
            if title and new_rules:
                board.refuse_twin(tx.db, title, touches, me)
            own = title and board.add_task(tx, title, TaskSource.SEAT, by=me, touches=touches).id
            taken = board.claim(tx, own or task, me, plan, touches)
            return f"{describe(tx.db, board.get(tx.db, taken.task), me)}\n{kept}".strip()

        return await self._store(call_id, work)

    async def _holds(self, task: str) -> bool:
        held = await self._desk.store.read(self._held)
        return held is not None and held.id == task

    def _as_recorded(self, call_id: str) -> None:
        """What was refused in a recording is, whatever the rules were then."""
        replay = self._desk.replay
        if replay and (step := replay.calls.get(call_id)) and step.kind == "refused":
            raise Refused("refused, as in the recording")

    def _refuse_company(self, tx: Tx) -> None:
        """Until a case passes on main, one seat works: sixteen seats on an empty tree write sixteen products."""
        others = [other for other in sessions.live(tx.db) if other.id != self._session.id]
        planners = [other for other in others if ramp.PLANNER == other.role != self._session.role]
        holders = [other for other in others if board.claim_of(tx.db, other.id)]
        for first in (planners + holders)[:1]:
            who = f"{first.seat} ({first.role})"
            raise Refused(f"no case passes on main yet, so {who} works alone first: wait, then ask again")

    async def _plan(self, call_id: str, **arguments: Any) -> Answer:
        """A planner's change of the board; says which lines changed."""
        self._as_recorded(call_id)
        asked, by = Plan(**arguments), self._session.id
        words: board.Words = {"why": asked.why, "cases": asked.done_when, "known": self._desk.shown_cases}
        words |= {"touches": asked.touches, "after": asked.after}

        def work(tx: Tx) -> str:
            said = []
            if asked.task:
                new = board.rewrite(tx, asked.task, asked.title, by=by, **words)
                cases = f": it now names {len(new.cases)} cases, and no others" if asked.done_when else ""
                said.append(f'{new.id} "{new.title}" changed{cases}')
            elif asked.title:
                new = board.add_task(tx, asked.title, TaskSource.PLANNER, by=by, **words)
                said.append(f'{new.id} "{new.title}" written: {len(new.cases)} cases')
            for name in asked.drop:
                board.drop_task(tx, name, asked.why or "dropped by the planner", by)
                said.append(f"{name} dropped")
            if asked.merge:
                into, *others = asked.merge
                kept = board.merge(tx, into, others, by)
                said.append(f"{', '.join(others)} merged into {into}: {len(kept.cases)} cases")
            if asked.order:
                board.order(tx, asked.order, by)
                said.append(f"first now: {', '.join(asked.order)}")
            return "\n".join(said)

        return await self._store(call_id, work)

    # -- the judge and the queue

    async def _received(self, ref: str, *, finished: bool = False) -> Received:
        """The workspace, out of the room and through the quarantine. Raises `Unpacked` and `quarantine.Refused`; where
        it is to be `finished`, `Unfinished`."""
        pack = await workspace.packed(self._room.run, workspace.SUBMISSION, finished=finished)
        return await self._desk.repository.receive(pack, ref)

    def _recorded(self, call_id: str) -> str:
        """What a replayed call came to in its recording, which may be older than a rule; else ""."""
        return self._desk.replay.calls[call_id].kind if self._desk.replay else ""

    async def _verify(self, call_id: str, what: str) -> Answer:
        desk, session = self._desk, self._session
        wanted = self._selections(what, await desk.store.read(self._held), self._recorded(call_id))
        received = await self._received(f"refs/drafts/{session.seat}")
        merged = await desk.repository.merge(await desk.repository.main(), received.commit)
        if isinstance(merged, Conflict):
            raise Refused(f"{merged.reason}: `git pull --rebase` and resolve it\n{merged.hunks}")
        began, floor = anyio.current_time(), (await desk.gate.judge_main()).passed()
        said, verdicts = [], dict[str, Verdict]()
        async with desk.verifying:
            for name, selection in wanted.items():
                card = await desk.judge.judge(merged, selection)
                if card.void:
                    raise Refused(f"the judge could not run: {card.void}. Not your change's fault; try again.")
                if not card.build.ok:
                    raise Refused(f"does not build: {card.build.reason}\n{card.build.log_tail}")
                before = len(floor & card.verdicts.keys())
                said.append(f"{name} {len(card.passed())}/{len(card.verdicts)} (main {before})")
                verdicts |= card.verdicts
        seconds, whole = anyio.current_time() - began, replace(card, verdicts=verdicts)
        counts = {"passed": len(whole.passed()), "total": len(verdicts), "seconds": round(seconds, 1)}
        await desk.journal("verified", session.seat, session=session.id, what=what, **counts)
        lines, new = error_lines(whole, floor), sorted(whole.passed() - floor)
        news = f"passes, and not on main ({len(new)}): {' '.join(new[:GAINS_SHOWN])}"
        if len(lines) > ERRORS_SHOWN or len(new) > GAINS_SHOWN:
            await self._room.write("/tmp/verify.log", "\n".join([*new, *lines]).encode())
            lines[ERRORS_SHOWN:] = ["(all of it in /tmp/verify.log)"]
        return Answer("\n".join([" · ".join([*said, f"{seconds:.0f} s"]), *([news] if new else []), *lines]))

    def _selections(self, what: str, task: Task | None, recorded: str) -> dict[str, Selection]:
        fast = {"fast": Selection(Tier.FAST, seed=board.seat_of(self._session.id))}
        own = {"task": Selection(Tier.CASES, frozenset(task.cases))} if task and task.cases else {}
        if what in ("fast", "touched"):
            return fast if what == "fast" else own | fast
        if what == "task":
            if task and not own and recorded in ("", "ok"):
                return {f"{task.id} names no cases, so this is the fast sample: fast": fast["fast"]}
            if not own:
                raise Refused(f"{task.id} names no cases: use verify fast, or case ids" if task else NO_CLAIM)
            return own
        cases = frozenset(what.replace(",", " ").split())
        if unknown := sorted(cases - self._desk.shown_cases):
            raise Refused(
                f"no such case: {', '.join(unknown[:3])}; give `fast`, `task` or case ids as `tasks` prints them"
            )
        return {"cases": Selection(Tier.CASES, cases)}

    async def _submit(self, call_id: str, summary: str, fixes: Sequence[str]) -> Answer:
        """Hands the workspace in and has it staged; what becomes of it is the call's answer, which the gate stores. A
        seat has one unmerged change: another one follows when that has come to its end."""
        desk, seat = self._desk, board.seat_of(self._session.id)

        def look(db: sqlite3.Connection) -> tuple[Change | None, list[str]]:
            return rows.first(db, Change, "WHERE call = ?", call_id), [c.id for c in changes.live(db) if c.seat == seat]

        change, unmerged = await desk.store.read(look)
        if change is None and unmerged:
            await desk.store.write(self._rest)
            raise Later(f"{unmerged[0]} of this seat is judged first; then this is handed in")
        change = change or await self._hand_in(call_id, summary, tuple(fixes))
        await desk.gate.submit(change)
        id = change.id
        change = await desk.store.read(lambda db: rows.get(db, Change, id))
        if change.state.terminal:
            desk.gate.returned.pop(seat, None)
            return Answer(f"{change.id} {change.state}")  # the gate has stored what the session reads
        raise Later(await desk.store.read(lambda db: standing(db, change)))

    def _rest(self, tx: Tx) -> None:
        rows.update(tx, "session", self._session.id, state=SessionState.WAITING)

    async def _hand_in(self, call_id: str, summary: str, fixes: tuple[str, ...]) -> Change:
        """Takes the workspace as a change, and queues it."""
        desk, session = self._desk, self._session

        def task_of(tx: Tx) -> Task:
            held = self._held(tx.db)
            if held is None and session.role != ramp.PLANNER:
                raise Refused(NO_CLAIM)
            if held is None:  # a planner's DESIGN.md: the task names no case, and closes when the change lands
                title = f"{session.id}: {summary.strip().partition(chr(10))[0]}"
                held = board.add_task(tx, title, TaskSource.SEAT, by=session.id)
                board.claim(tx, held.id, session.id)
            return held

        task = await desk.store.write(task_of)
        if unknown := [case for case in fixes if case not in desk.shown_cases and case not in task.cases]:
            raise Refused(f"fixes names no known case: {', '.join(unknown[:3])}; give case ids as `tasks` prints them")
        async with desk.submitting:
            number = await desk.store.write(lambda tx: rows.next_number(tx, "change"))
            finished = self._recorded(call_id) in ("", UNFINISHED)
            received = await self._received(f"refs/changes/{number}", finished=finished)

            def work(tx: Tx) -> Change:
                change = Change(
                    id=f"C{number}",
                    session=session.id,
                    seat=board.seat_of(session.id),
                    task=task.id,
                    state=ChangeState.QUEUED,
                    submitted=(desk.replay and desk.replay.submitted(call_id)) or tx.now,
                    call=call_id,
                    summary=summary,
                    fixes=fixes or task.cases,
                    **vars(received),
                )
                changes.add(tx, change)
                self._rest(tx)
                return change

            change = await desk.store.write(work)
        faults.at("handed-in")
        desk.changed.ring()
        return change


async def tasks(desk: Desk, session: str, show: str = "ready", limit: int = 10) -> str:
    """The board as the tool `tasks` shows it to a session, which may wait; above it how its seat's changes stand."""
    if show.startswith("T"):
        return await desk.store.read(lambda db: describe(db, board.get(db, show), session, shown=board.NAMED))

    def own(db: sqlite3.Connection) -> list[str]:
        return [standing(db, one) for one in changes.live(db) if one.seat == board.seat_of(session)]

    return "\n".join([*await desk.store.read(own), await desk.board(Show(show), session=session, limit=limit)])


def error_lines(card: Scorecard, floor: Set[str]) -> list[str]:
    """Failing cases, those that main passes first."""
    failing = sorted(clusters.failures(card), key=lambda case: case not in floor)
    return [error_line(case, card) + " (passes on main)" * (case in floor) for case in failing]
