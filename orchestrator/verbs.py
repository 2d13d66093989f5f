"""The team's verbs for one session. A verb's effect and its answer are one transaction, under the call's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import anyio

from agents.team import Answer, End
from agents.visible import visible
from orchestrator import board, ramp, workspace
from orchestrator.desk import Desk
from orchestrator.quarantine import SUBMISSION, Refused
from orchestrator.records import CallState, Change, ChangeState, Session, SessionState, Task, TaskSource, TaskState
from orchestrator.repository import Conflict, Received
from orchestrator.store import Tx, changes, sessions, tasks
from orchestrator.store.rows import update
from orchestrator.tasklist import Show, render_tasks
from orchestrator.workspace import Kind
from sandbox.room import Room
from verifiers.judging import Selection, Tier
from verifiers.scorecard import Outcome, Scorecard

ERRORS_SHOWN: Final = 10
NO_CLAIM: Final = "you hold no task: call tasks, then claim one"


class No(Exception):
    """A verb is refused; the text says what to do instead."""


class Verbs:
    """`agents.team.Team` for one session in its room."""

    def __init__(self, desk: Desk, session: Session, room: Room) -> None:
        self._desk = desk
        self._session = session
        self._room = room

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        done = await self._desk.store.read(lambda db: sessions.get_call(db, call_id))
        if done is not None and done.state is CallState.DONE:
            return Answer(done.result, done.failed, End(done.end) if done.end else None)
        try:
            match verb:
                case "tasks":
                    return await self._tasks(**arguments)
                case "claim":
                    return await self._claim(call_id, **arguments)
                case "verify":
                    return await self._verify(arguments["what"])
                case "submit":
                    return await self._submit(call_id, **arguments)
                case "release":
                    return await self._release(call_id, **arguments)
                case "note":
                    return await self._note(call_id, **arguments)
                case "plan":
                    return await self._plan(call_id, **arguments)
        except (No, board.Refused) as refusal:
            return Answer(str(refusal), refused=True)
        raise ValueError(f"there is no verb {verb}")

    async def _store(self, call_id: str, work: Callable[[Tx], str], end: End | None = None) -> Answer:
        """One transaction: the verb's effect, and its answer under the call's id."""

        def both(tx: Tx) -> Answer:
            answer = Answer(work(tx), end=end)
            sessions.finish_call(tx, call_id, answer)
            return answer

        answer = await self._desk.store.write(both)
        self._desk.board_changed.ring()
        return answer

    async def _claimed(self) -> Task | None:
        return await self._desk.store.write(lambda tx: task_of(tx, self._session.id))

    # -- the board

    async def _tasks(self, show: str = "ready", limit: int = 10) -> Answer:
        if show[:1] == "T":
            return Answer(await self._desk.store.write(lambda tx: whole(tx, board.get(tx.db, show))))
        now, weights = self._desk.utc_now(), self._desk.weights
        text = await self._desk.store.read(
            lambda db: render_tasks(db, Show(show), now, session=self._session.id, limit=limit, weights=weights)
        )
        return Answer(text)

    async def _claim(
        self, call_id: str, task: str = "", title: str = "", touches: Sequence[str] = (), plan: str = ""
    ) -> Answer:
        passing = bool((await self._desk.gate.judge_main()).passed())

        def work(tx: Tx) -> str:
            if not passing:
                self._alone(tx)
            if title:
                claim = board.claim_own(tx, title, touches, self._session.id, plan)
            else:
                claim = board.claim(tx, task, self._session.id, plan, touches)
            return describe(tx, board.get(tx.db, claim.task), self._session.id)

        return await self._store(call_id, work)

    def _alone(self, tx: Tx) -> None:
        """Until a case passes on main, one seat works: sixteen seats on an empty tree write sixteen products."""
        others = [other for other in sessions.live(tx.db) if other.id != self._session.id]
        first = next((other for other in others if other.role == ramp.PLANNER), None)
        if first is None or self._session.role == ramp.PLANNER:
            first = next((other for other in others if tasks.claim_of(tx.db, other.id)), None)
        if first is not None:
            raise No(
                f"no case passes on main yet, so {first.seat} ({first.role}) works alone first: wait, then ask again"
            )

    async def _release(self, call_id: str, reason: str, note: str = "") -> Answer:
        def work(tx: Tx) -> str:
            task = board.release(tx, self._session.id, reason, note)
            return f"{task.id} released, work kept"

        return await self._store(call_id, work, End.RELEASED)

    async def _note(self, call_id: str, topic: str, text: str) -> Answer:
        def work(tx: Tx) -> str:
            board.note(tx, topic, self._session.id, text)
            return "noted"

        return await self._store(call_id, work)

    async def _plan(self, call_id: str, **wanted: Any) -> Answer:
        known = self._desk.shown_cases

        return await self._store(call_id, lambda tx: plan(tx, self._session.id, known, **wanted))

    # -- the judge and the queue

    async def _packed(self) -> bytes:
        """The workspace as the room gives it out: bytes for the quarantine. Raises `No`."""
        try:
            return workspace.packed(await self._room.run(workspace.pack(Kind.SUBMISSION, SUBMISSION.packed)))
        except workspace.Unpacked as failure:
            raise No(str(failure)) from failure

    async def _received(self, ref: str) -> Received:
        try:
            return await self._desk.repository.receive(await self._packed(), ref)
        except Refused as refusal:
            raise No(f"not taken: {refusal}") from refusal

    async def _verify(self, what: str) -> Answer:
        desk = self._desk
        task = await self._claimed()
        wanted = self._selections(what, task)
        received = await self._received(f"refs/drafts/{self._session.seat}")
        main = await desk.repository.main()
        merged = await desk.repository.merge(main, received.commit)
        if isinstance(merged, Conflict):
            return Answer(conflict_text(merged), refused=True)
        began = anyio.current_time()
        floor = await desk.gate.judge_main()
        parts, errors = [], []
        async with desk.verifying:
            for name, selection in wanted.items():
                card = await desk.judge.judge(desk.repository.tree(merged), selection)
                if card.void:
                    return Answer(
                        f"the judge could not run: {card.void}. Not your change's fault; try again.", refused=True
                    )
                if not card.build.ok:
                    return Answer(f"does not build: {card.build.reason}\n{card.build.log_tail}", refused=True)
                parts.append(totals(name, card, floor))
                errors += error_lines(card, floor)
        seconds = anyio.current_time() - began
        passed, total = sum(part[1] for part in parts), sum(part[2] for part in parts)
        await desk.journal(
            "verified",
            self._session.seat,
            session=self._session.id,
            what=what,
            passed=passed,
            total=total,
            seconds=round(seconds, 1),
        )
        text = " · ".join([*(part[0] for part in parts), f"{seconds:.0f} s"])
        shown = list(dict.fromkeys(errors))
        if len(shown) > ERRORS_SHOWN:
            await self._room.write("/tmp/verify.log", "\n".join(shown).encode())
            shown = [*shown[:ERRORS_SHOWN], f"({len(shown) - ERRORS_SHOWN} more in /tmp/verify.log)"]
        return Answer("\n".join([text, *shown]))

    def _selections(self, what: str, task: Task | None) -> dict[str, Selection]:
        fast = Selection(Tier.FAST, seed=self._session.seat)
        if what == "fast":
            return {"fast": fast}
        if what == "touched":
            wanted = {"fast": fast}
            return {"task": Selection(Tier.CASES, frozenset(task.cases)), **wanted} if task and task.cases else wanted
        if what == "task":
            if task is None:
                raise No(NO_CLAIM)
            if not task.cases:
                raise No(f"{task.id} names no cases: use verify fast, or case ids")
            return {"task": Selection(Tier.CASES, frozenset(task.cases))}
        cases = frozenset(what.replace(",", " ").split())
        unknown = sorted(case for case in cases if case not in self._desk.shown_cases)
        if unknown:
            raise No(
                f"no such case: {', '.join(unknown[:3])}; what is `fast`, `task` or case ids as `tasks` prints them"
            )
        return {"cases": Selection(Tier.CASES, cases)}

    async def _submit(self, call_id: str, summary: str, fixes: Sequence[str] = ()) -> Answer:
        desk = self._desk
        found = await desk.store.read(lambda db: changes.by_call(db, call_id))
        change = found or await self._hand_in(call_id, summary, tuple(fixes))
        await self._mark(SessionState.WAITING)
        while not change.state.terminal:
            heard = desk.gate.moved.heard
            change = await self._reread(change)
            if not change.state.terminal:
                await desk.gate.moved.wait(heard)
        await self._mark(SessionState.ACTIVE)
        return await self._verdict(change)

    async def _reread(self, change: Change) -> Change:
        return await self._desk.store.read(lambda db: changes.get(db, change.id))

    async def _mark(self, state: SessionState) -> None:
        await self._desk.store.write(lambda tx: update(tx, "session", self._session.id, state=state))

    async def _hand_in(self, call_id: str, summary: str, fixes: tuple[str, ...]) -> Change:
        """Takes the workspace as a change, and queues it; a conflict with main bounces it at once."""
        desk = self._desk
        task = await self._claimed()
        if task is None and self._session.role == ramp.PLANNER:
            task = await self._desk.store.write(lambda tx: own_task(tx, summary, self._session.id))
        if task is None:
            raise No(NO_CLAIM)
        unknown = [case for case in fixes if case not in desk.shown_cases and case not in task.cases]
        if unknown:
            raise No(f"fixes names no known case: {', '.join(unknown[:3])}; give case ids as `tasks` prints them")
        async with desk.submitting:
            number = await desk.store.write(changes.next_number)
            received = await self._received(f"refs/changes/{number}")
            merged = await desk.repository.merge(await desk.repository.main(), received.commit)
            change = Change(
                id=f"C{number}",
                session=self._session.id,
                seat=self._session.seat,
                task=task.id,
                state=ChangeState.QUEUED,
                submitted=desk.utc_now(),
                base=received.base,
                commit=received.commit,
                tree=received.tree,
                call=call_id,
                summary=summary,
                fixes=fixes or task.cases,
                files=received.files,
                added=received.added,
                removed=received.removed,
            )

            def work(tx: Tx) -> None:
                changes.add(tx, change)
                if isinstance(merged, Conflict):
                    reason = f"conflicts with main in {', '.join(merged.files[:5])}"
                    changes.bounce(tx, change, reason, detail=merged.hunks)

            await desk.store.write(work)
        desk.gate.queued.ring()
        desk.board_changed.ring()
        return await self._reread(change)

    async def _verdict(self, change: Change) -> Answer:
        """The change's end, as its submitter reads it. A landing ends the session."""
        if change.state is ChangeState.WITHDRAWN:
            return Answer(f"{change.id} withdrawn: {change.reason}", refused=True)
        if change.state is ChangeState.BOUNCED:
            main = (await self._desk.repository.main())[:7]
            advice = f"main is {main}: `git pull --rebase` brings it under your work; repair, verify, submit again."
            return Answer(f"{change.id} bounced: {change.reason}\n{advice}", refused=True)

        def work(tx: Tx) -> str:
            task = board.get(tx.db, change.task)
            if task.state is TaskState.CLOSED:
                return f"{change.id} landed as {change.landed_as[:7]}, {task.id} closed: {task.reason}"
            return f"{change.id} landed as {change.landed_as[:7]}; {task.id} is not done yet and goes back to the board"

        return Answer(await self._desk.store.write(work), end=End.LANDED)


def describe(tx: Tx, task: Task, session: str) -> str:
    """What `claim` shows: the task, its cases, how to run one, notes, who else is in these folders."""
    lines = [f"{task.id} {visible(task.title)}"]
    if task.why:
        lines.append(f"why: {visible(task.why)}")
    if task.cases:
        more = f" and {len(task.cases) - 10} more" if len(task.cases) > 10 else ""
        lines.append(f"cases ({len(task.cases)}): {' '.join(task.cases[:10])}{more}")
        lines.append(f"run one: verify {task.cases[0]}   its source: /team/cases/")
    lines += [
        f"note from {note.session}: > {visible(line)}"
        for note in board.notes_for(tx.db, task)
        for line in note.text.splitlines()
    ]
    lines += [f"also here: {other}" for other in neighbours(tx, task, session)]
    return "\n".join(lines)


def whole(tx: Tx, task: Task) -> str:
    """Everything about one task, with all its cases."""
    lines = [f"{task.id} {visible(task.title)}", f"{task.state}, from {task.source} {task.by}".rstrip()]
    lines += [f"why: {visible(task.why)}"] if task.why else []
    lines += [f"touches: {' '.join(task.touches)}"] if task.touches else []
    lines += [f"after: {' '.join(task.after)}"] if task.after else []
    lines += [f"cases ({len(task.cases)}): {' '.join(task.cases)}"] if task.cases else []
    notes = board.notes_for(tx.db, task)
    return "\n".join(
        [*lines, *(f"note from {n.session}: > {visible(line)}" for n in notes for line in n.text.splitlines())]
    )


def neighbours(tx: Tx, task: Task, session: str) -> list[str]:
    """Others whose folders overlap the task's, one line each."""
    claims = [held for held in tasks.claims(tx.db) if held.session != session]
    here = [held for held in claims if board.overlap(task.touches, held.touches)]
    return [f"{held.session} on {held.task} in {', '.join(held.touches)}" for held in here]


def own_task(tx: Tx, summary: str, session: str) -> Task:
    """The task of a planner's own change (DESIGN.md): it names no case, and closes when the change lands."""
    title = f"{session}: {summary.strip().partition(chr(10))[0]}"
    return board.get(tx.db, board.claim_own(tx, title, (), session).task)


def task_of(tx: Tx, session: str) -> Task | None:
    held = tasks.claim_of(tx.db, session)
    return None if held is None else board.get(tx.db, held.task)


def plan(
    tx: Tx,
    session: str,
    known: frozenset[str],
    *,
    title: str = "",
    why: str = "",
    done_when: Sequence[str] = (),
    touches: Sequence[str] = (),
    after: Sequence[str] = (),
    task: str = "",
    drop: Sequence[str] = (),
    merge: Sequence[str] = (),
    order: Sequence[str] = (),
) -> str:
    """A planner's change of the board; says which lines changed."""
    said = []
    facts: dict[str, Any] = {"why": why, "cases": done_when, "touches": touches, "after": after, "known": known}
    if task:
        changed = board.rewrite(tx, task, session, title=title, **facts)
        said.append(f'{changed.id} "{changed.title}" changed: it now names {len(changed.cases)} cases, and no others')
    elif title:
        made = board.add_task(tx, title, TaskSource.PLANNER, by=session, **facts)
        said.append(f'{made.id} "{made.title}" written: {len(made.cases)} cases')
    said += [f"{board.drop_task(tx, name, why or 'dropped by the planner', session).id} dropped" for name in drop]
    if merge:
        kept = board.merge(tx, merge[0], merge[1:], session)
        said.append(f"{', '.join(merge[1:])} merged into {kept.id}: {len(kept.cases)} cases")
    if order:
        board.order(tx, order, session)
        said.append(f"first now: {', '.join(order)}")
    return "\n".join(said)


def conflict_text(conflict: Conflict) -> str:
    files = ", ".join(conflict.files[:5])
    return f"conflicts with main in {files}: `git pull --rebase` and resolve it\n{conflict.hunks}"


def totals(name: str, card: Scorecard, floor: Scorecard) -> tuple[str, int, int]:
    passed, total = len(card.passed()), len(card.verdicts)
    main = len(floor.passed() & card.verdicts.keys())
    return f"{name} {passed}/{total} (main {main})", passed, total


def error_lines(card: Scorecard, floor: Scorecard) -> list[str]:
    """Failing cases, those that main passes first."""
    failing = [verdict for verdict in card.verdicts.values() if verdict.outcome not in (Outcome.PASS, Outcome.SKIP)]
    passing = floor.passed()
    failing.sort(key=lambda verdict: verdict.case not in passing)
    return [
        f"ERROR {verdict.case}: {visible(verdict.reason) or verdict.outcome.name.lower()}"
        + (" (passes on main)" if verdict.case in passing else "")
        for verdict in failing
    ]
