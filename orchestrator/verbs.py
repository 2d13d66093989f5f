"""The team's verbs for one session. A verb's effect and its answer are one transaction, under the call's id."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final

import anyio

from agents.tools import Answer, End, Plan
from orchestrator import board, quarantine, ramp, workspace
from orchestrator.board import Refused
from orchestrator.briefing import Show, describe, render_tasks
from orchestrator.desk import Desk
from orchestrator.quoting import visible
from orchestrator.records import Change, ChangeState, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.repository import Conflict, Received
from orchestrator.store import Tx, changes, rows, sessions
from orchestrator.workspace import Kind
from sandbox.room import Room
from verifiers.scorecard import Outcome, Scorecard, Selection, Tier

ERRORS_SHOWN, GAINS_SHOWN = 10, 40
NO_CLAIM: Final = "you hold no task: call tasks, then claim one"


class Verbs:
    """`agents.tools.Team` for one session in its room. Each verb takes the arguments of its class in `agents.tools`."""

    def __init__(self, desk: Desk, session: Session, room: Room) -> None:
        self._desk = desk
        self._session = session
        self._room = room
        self._verbs: Mapping[str, Callable[..., Awaitable[Answer]]] = {
            "tasks": self._tasks,
            "claim": self._claim,
            "verify": self._verify,
            "submit": self._submit,
            "release": partial(self._do_on_board, board.release, End.RELEASED),
            "note": partial(self._do_on_board, board.leave_note, None),
            "plan": self._plan,
        }

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        done = await self._desk.store.read(lambda db: sessions.answer_to(db, call_id))
        if done is not None:
            return done
        try:
            return await self._verbs[verb](call_id, **arguments)
        except quarantine.Refused as refusal:
            return Answer(f"not taken: {refusal}", refused=True)
        except (Refused, workspace.Unpacked) as refusal:
            return Answer(str(refusal), refused=True)

    async def _store(self, call_id: str, work: Callable[[Tx], str], end: End | None = None) -> Answer:
        """One transaction: the verb's effect, and its answer under the call's id."""

        def both(tx: Tx) -> Answer:
            answer = Answer(work(tx), end=end)
            sessions.finish_call(tx, call_id, answer)
            return answer

        answer = await self._desk.store.write(both)
        self._desk.board_changed.ring()
        return answer

    def _held(self, db: sqlite3.Connection) -> Task | None:
        """The task that the session works on."""
        held = board.claim_of(db, self._session.id)
        return None if held is None else board.get(db, held.task)

    # -- the board

    async def _do_on_board(self, effect: Callable[..., str], end: End | None, call_id: str, **arguments: Any) -> Answer:
        return await self._store(call_id, lambda tx: effect(tx, self._session.id, **arguments), end)

    async def _tasks(self, call_id: str, show: str, limit: int) -> Answer:
        me, now = self._session.id, self._desk.utc_now()
        main = await self._desk.gate.headline()

        def look(db: sqlite3.Connection) -> str:
            if show.startswith("T"):
                return describe(db, board.get(db, show), me, shown=board.NAMED)
            return f"{main}\n{render_tasks(db, Show(show), now, session=me, limit=limit)}"

        return Answer(await self._desk.store.read(look))

    async def _claim(self, call_id: str, task: str, title: str, touches: Sequence[str], plan: str) -> Answer:
        passing, me = (await self._desk.gate.judge_main()).passed(), self._session.id

        def work(tx: Tx) -> str:
            if not passing:
                self._refuse_company(tx)
            own = title and board.add_task(tx, title, TaskSource.SEAT, by=me, touches=touches).id
            taken = board.claim(tx, own or task, me, plan, touches)
            return describe(tx.db, board.get(tx.db, taken.task), me)

        return await self._store(call_id, work)

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

    async def _received(self, ref: str) -> Received:
        """The workspace, out of the room and through the quarantine. Raises `Unpacked` and `quarantine.Refused`."""
        given = await self._room.run(workspace.pack(Kind.SUBMISSION, quarantine.SUBMISSION.packed))
        return await self._desk.repository.receive(workspace.packed(given), ref)

    async def _verify(self, call_id: str, what: str) -> Answer:
        desk, session = self._desk, self._session
        wanted = self._selections(what, await desk.store.read(self._held))
        received = await self._received(f"refs/drafts/{session.seat}")
        merged = await desk.repository.merge(await desk.repository.main(), received.commit)
        if isinstance(merged, Conflict):
            files = ", ".join(merged.files[:5])
            raise Refused(f"conflicts with main in {files}: `git pull --rebase` and resolve it\n{merged.hunks}")
        began = anyio.current_time()
        floor = (await desk.gate.judge_main()).passed()
        said, errors, gained, passed, total = [], [], set[str](), 0, 0
        async with desk.verifying:
            for name, selection in wanted.items():
                card = await desk.judge.judge(desk.repository.tree(merged), selection)
                if card.void:
                    raise Refused(f"the judge could not run: {card.void}. Not your change's fault; try again.")
                if not card.build.ok:
                    raise Refused(f"does not build: {card.build.reason}\n{card.build.log_tail}")
                good, all_of_it = len(card.passed()), len(card.verdicts)
                said.append(f"{name} {good}/{all_of_it} (main {len(floor & card.verdicts.keys())})")
                errors += error_lines(card, floor)
                gained |= card.passed() - floor
                passed, total = passed + good, total + all_of_it
        seconds = anyio.current_time() - began
        counts = {"passed": passed, "total": total, "seconds": round(seconds, 1)}
        await desk.journal("verified", session.seat, session=session.id, what=what, **counts)
        lines, new = list(dict.fromkeys(errors)), sorted(gained)
        news = f"passes, and not on main ({len(new)}): {' '.join(new[:GAINS_SHOWN])}"
        if len(lines) > ERRORS_SHOWN or len(new) > GAINS_SHOWN:
            await self._room.write("/tmp/verify.log", "\n".join([*new, *lines]).encode())
            lines[ERRORS_SHOWN:] = ["(all of it in /tmp/verify.log)"]
        return Answer("\n".join([" · ".join([*said, f"{seconds:.0f} s"]), *([news] if new else []), *lines]))

    def _selections(self, what: str, task: Task | None) -> dict[str, Selection]:
        fast = {"fast": Selection(Tier.FAST, seed=self._session.seat)}
        own = {"task": Selection(Tier.CASES, frozenset(task.cases))} if task and task.cases else {}
        if what in ("fast", "touched"):
            return fast if what == "fast" else own | fast
        if what == "task":
            if not own:
                raise Refused(f"{task.id} names no cases: use verify fast, or case ids" if task else NO_CLAIM)
            return own
        cases = frozenset(what.replace(",", " ").split())
        if unknown := sorted(cases - self._desk.shown_cases):
            meant = "what is `fast`, `task` or case ids as `tasks` prints them"
            raise Refused(f"no such case: {', '.join(unknown[:3])}; {meant}")
        return {"cases": Selection(Tier.CASES, cases)}

    async def _submit(self, call_id: str, summary: str, fixes: Sequence[str]) -> Answer:
        desk, session = self._desk, self._session
        found = await desk.store.read(lambda db: rows.first(db, Change, "WHERE call = ?", call_id))
        id = (found or await self._hand_in(call_id, summary, tuple(fixes))).id
        await desk.store.write(lambda tx: rows.update(tx, "session", session.id, state=SessionState.WAITING))
        heard = desk.gate.moved.heard
        while not (change := await desk.store.read(lambda db: rows.get(db, Change, id))).state.terminal:
            heard = await desk.gate.moved.wait(heard)
        await desk.store.write(lambda tx: rows.update(tx, "session", session.id, state=SessionState.ACTIVE))
        return await self._verdict(change)

    async def _hand_in(self, call_id: str, summary: str, fixes: tuple[str, ...]) -> Change:
        """Takes the workspace as a change, and queues it; a conflict with main bounces it at once."""
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
            received = await self._received(f"refs/changes/{number}")
            merged = await desk.repository.merge(await desk.repository.main(), received.commit)
            change = Change(
                id=f"C{number}",
                session=session.id,
                seat=session.seat,
                task=task.id,
                state=ChangeState.QUEUED,
                submitted=desk.utc_now(),
                call=call_id,
                summary=summary,
                fixes=fixes or task.cases,
                **vars(received),
            )

            def work(tx: Tx) -> None:
                changes.add(tx, change)
                if isinstance(merged, Conflict):
                    reason = f"conflicts with main in {', '.join(merged.files[:5])}"
                    changes.bounce(tx, change, reason, detail=merged.hunks)

            await desk.store.write(work)
        desk.gate.queued.ring()
        desk.board_changed.ring()
        return change

    async def _verdict(self, change: Change) -> Answer:
        """The change's end, as its submitter reads it. A landing ends the session."""
        if change.state is ChangeState.WITHDRAWN:
            return Answer(f"{change.id} withdrawn: {change.reason}", refused=True)
        if change.state is ChangeState.BOUNCED:
            main = (await self._desk.repository.main())[:7]
            advice = f"main is {main}: `git pull --rebase` brings it under your work; repair, verify, submit again."
            return Answer(f"{change.id} bounced: {change.reason}\n{advice}", refused=True)
        task = await self._desk.store.read(lambda db: board.get(db, change.task))
        how = (
            f"closed: {task.reason}" if task.state is TaskState.CLOSED else "is not done yet and goes back to the board"
        )
        return Answer(f"{change.id} landed as {change.landed_as[:7]}, {task.id} {how}", end=End.LANDED)


def error_lines(card: Scorecard, floor: Set[str]) -> list[str]:
    """Failing cases, those that main passes first."""
    failing = [verdict for verdict in card.verdicts.values() if verdict.outcome not in (Outcome.PASS, Outcome.SKIP)]
    return [
        f"ERROR {verdict.case}: {visible(verdict.reason) or verdict.outcome.name.lower()}"
        + (" (passes on main)" if verdict.case in floor else "")
        for verdict in sorted(failing, key=lambda verdict: verdict.case not in floor)
    ]
