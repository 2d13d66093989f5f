"""The run itself: open, recover, go, drain, stop. One process owns it, in an epoch of its own."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from agents.models.base import Model, Usage
from agents.models.choose import OPEN, make
from agents.models.scripted import Scripted
from orchestrator import VERSION, board, control, lockfiles
from orchestrator.control import Refusal
from orchestrator.desk import Desk, Seat
from orchestrator.gate import Gate, HeldoutLane
from orchestrator.ledger import Budget, Ledger
from orchestrator.open_seats import OpenSeats
from orchestrator.preparing import SECRET, thawed_models
from orchestrator.prices import Prices
from orchestrator.project.freezing import load_frozen
from orchestrator.project.furnishing import furnish, judge_plan
from orchestrator.records import RunState, Session, TaskSource
from orchestrator.repository import Repository
from orchestrator.roles import share_out
from orchestrator.seat import again, room_name, work
from orchestrator.settings import Settings
from orchestrator.store import Store, Tx, changes, sessions
from orchestrator.watch.queries import settings_of
from orchestrator.watch.scribe import Scribe
from sandbox.engines import choose
from sandbox.keep import state_home
from sandbox.room import Labels
from verifiers.judge import RoomJudge

log = structlog.get_logger()

TICK_S: Final = 0.5
NOTE_WORK_S: Final = 30.0
FIRST_USER: Final = 10  # of the seats; judges come before
JUDGE_USER, HELDOUT_USER, VERIFY_USER = 1, 2, 3
HELDOUT_WAIT_S: Final = 900.0  # how long the end of a run waits for the last main's held-out verdict
SUSPEND_S: Final = 60.0  # how long a stop waits for sessions to reach a stored turn


def utc_now() -> datetime:
    return datetime.now(UTC)


async def serve(folder: Path) -> None:
    """The whole life of a run's process: takes the run over, recovers, works until it ends or is stopped."""
    folder = await anyio.to_thread.run_sync(folder.absolute)
    async with AsyncExitStack() as stack:
        store = Store(folder / "state.db", utc_now)
        stack.push_async_callback(store.close)
        await store.begin_epoch()
        run = await Run.open(folder, store, stack)
        await run.recover()
        await run.go()


@dataclass
class Run:
    """One run in this process."""

    desk: Desk
    heldout: HeldoutLane
    open_seats: OpenSeats = field(init=False)
    _end: tuple[RunState, str] = (RunState.STOPPED, "")
    _began: float = field(default_factory=anyio.current_time)
    _worked_before: float = 0.0
    _seats_working: int = 0

    @classmethod
    async def open(cls, folder: Path, store: Store, stack: AsyncExitStack) -> Run:
        """Puts the run together from what was frozen. Raises what says why it cannot: image gone, no key, no engine."""
        settings = await store.read(settings_of)
        home = state_home()
        frozen = load_frozen(folder)
        project = frozen.project
        engine = choose(settings.sandbox, home)
        local = engine.name == "local"
        furnished = await furnish(project, home, local=local, progress=lambda line: log.info("furnish", line=line))
        changed = {name: now for name, now in furnished.digests().items() if frozen.lock.digests.get(name, now) != now}
        for name, now in changed.items():  # built again where nothing of it was kept, from mirrors that had moved on
            facts = {"what": name, "old": frozen.lock.digests[name], "new": now, "by": "run"}
            await store.write(lambda tx, facts=facts: tx.journal("condition-changed", **facts))  # type: ignore[misc]
        repository = Repository(folder)
        await repository.recover()
        judge_engine = engine if local else choose(None, home, judging=True)
        secret = await anyio.Path(folder / SECRET).read_bytes()
        label = f"{settings.name}-{hashlib.sha256(secret).hexdigest()[:8]}"

        def judge(lane: str, user: int, cores: int) -> RoomJudge:
            scratch = home / "judges" / label / lane
            plan = judge_plan(project, furnished, frozen.cases, scratch=scratch, secret=secret, cores=cores)
            made = RoomJudge(judge_engine, plan, Labels(label, store.epoch, lane), user)
            stack.push_async_callback(made.close)
            return made

        await judge_engine.sweep(label, store.epoch, kept(await store.read(sessions.live)))
        models = {id: make(path, os.environ) for id, path in thawed_models(folder, settings).items() if id != OPEN}
        gate = Gate(store, repository, judge("gate", JUDGE_USER, settings.judge_cores), settings.name, utc_now)
        heldout = HeldoutLane(gate, judge("heldout", HELDOUT_USER, 1))
        desk = Desk(
            folder=folder,
            frozen=frozen,
            settings=settings,
            store=store,
            repository=repository,
            judge=judge("verify", VERIFY_USER, settings.verify_cores),
            gate=gate,
            ledger=Ledger(prices_of(models, settings), Budget(settings.budget, settings.session_budget)),
            engine=engine,
            label=label,
            rooms=home / "workspaces" / label,
            root=furnished.image,
            sources={name: furnished.sources[name].folder for name in project.shown_sources},
            models=models,
            seats=seats_of(project.roles, settings),
            shown_cases=frozenset(case.id for case in frozen.cases if not case.heldout),
            utc_now=utc_now,
            board_changed=gate.board_changed,
        )
        return cls(desk, heldout)

    async def recover(self) -> None:
        """Everything an earlier process left between two steps is finished, given back, or put where it goes on."""
        desk = self.desk
        live = await desk.store.read(sessions.live)
        swept = await desk.engine.sweep(desk.label, desk.store.epoch, kept(live))
        await desk.gate.recover()

        def take_over(tx: Tx) -> float:
            desk.ledger.recover(tx)
            board.recover(tx, {session.id for session in live})
            tx.run("UPDATE run SET state = ?, reason = ''", RunState.RUNNING)
            if tx.one("SELECT 1 FROM journal WHERE kind = 'run-started'"):
                tx.journal("run-resumed", version=VERSION, by=control.who(), sessions=len(live))
            else:
                self._plan(tx)
            if swept:
                tx.journal("swept", count=swept)
            row = tx.one("SELECT worked_s FROM run")
            return float(row["worked_s"]) if row else 0.0

        self._worked_before = await desk.store.write(take_over)

    def _plan(self, tx: Tx) -> None:
        """A new run: who works under what, and the project's own tasks."""
        settings, lock = self.desk.settings, self.desk.frozen.lock
        facts = {"project": lock.project, "lock": lock.digests["project"], "models": dict(settings.models)}
        tx.journal("run-started", name=settings.name, agents=settings.agents, by=control.who(), **facts)
        ids: dict[str, str] = {}
        for planned in self.desk.frozen.project.plan:
            after = [ids[name] for name in planned.after]
            given: dict[str, Any] = {"why": planned.why, "cases": planned.cases, "touches": planned.touches}
            made = board.add_task(tx, planned.title, TaskSource.PROJECT, by="project", after=after, **given)
            ids[planned.name] = made.id

    async def go(self) -> None:
        """Works until the run has ended or is stopped; then everything is written down and the process may end."""
        desk = self.desk
        scribe = Scribe(desk.folder)
        async with anyio.create_task_group() as tasks_of_run:
            self.open_seats = OpenSeats(desk, [seat for seat in desk.seats if seat.model == OPEN], tasks_of_run)
            async with control.listening(desk.folder, self.answer):
                await desk.gate.judge_main()
                for keep in (desk.gate.keep, scribe.keep, self._keep_lock_files, self._note_work):
                    tasks_of_run.start_soon(keep)
                if any(case.heldout for case in self.desk.frozen.cases):
                    tasks_of_run.start_soon(self.heldout.keep)
                else:
                    self.heldout.idle.set()
                await self.open_seats.recover()
                for seat in desk.seats:
                    if seat.model != OPEN:
                        tasks_of_run.start_soon(self._work, seat)
                await self._watch()
                await self._settle()
                tasks_of_run.cancel_scope.cancel()
        state, reason = self._end
        by = {} if state is RunState.ENDED else {"by": control.who()}
        await self._turn(state, f"run-{state}", reason=reason, **by)
        await desk.engine.sweep(desk.label, desk.store.epoch + 1)  # unmounts workspaces; a resume finds their disks
        await anyio.to_thread.run_sync(scribe.catch_up)

    async def _work(self, seat: Seat) -> None:
        self._seats_working += 1
        try:
            await again(seat, self.desk, partial(work, seat, self.desk))
        finally:
            self._seats_working -= 1
            self.desk.board_changed.ring()

    async def _keep_lock_files(self) -> None:
        async for _ in self.desk.board_changed.rings():
            locks = await self.desk.store.read(lockfiles.locks)
            await anyio.to_thread.run_sync(lockfiles.sync, self.desk.folder / "current_tasks", locks)

    async def _note_work(self) -> None:
        """Writes down how long the run has worked, so that a crash costs its limit in hours next to nothing."""
        while True:
            await anyio.sleep(NOTE_WORK_S)
            await self.desk.store.write(lambda tx: tx.run("UPDATE run SET worked_s = worked_s + ?", NOTE_WORK_S))

    @property
    def worked_s(self) -> float:
        return self._worked_before + anyio.current_time() - self._began

    async def _turn(self, state: RunState, kind: str, **facts: object) -> None:
        """Puts the run into a state, and journals why; whoever waits for it looks again."""
        row = (state, facts.get("reason", ""), self.worked_s)

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET state = ?, reason = ?, worked_s = ?", *row)
            tx.journal(kind, **facts)

        await self.desk.store.write(write)
        self.desk.state_changed.ring()
        self.desk.board_changed.ring()

    # -- how a run ends

    async def _watch(self) -> None:
        """Returns once the run drains, by its own rules or because somebody stops it."""
        while not self.desk.draining:
            await anyio.sleep(TICK_S)
            if reason := await self._own_end():
                await self.drain(RunState.ENDED, reason, "run", at_once=reason.startswith("goal"))

    async def _own_end(self) -> str:
        """Why the run should end by its own rules, or ""."""
        desk, settings = self.desk, self.desk.settings
        card = await desk.gate.judge_main()
        if card.verdicts and card.passed() == card.verdicts.keys():
            return "goal: every shown case passes"
        if settings.hours is not None and self.worked_s >= settings.hours * 3600:
            return f"hours: {settings.hours:g} h of work"
        if desk.broke:
            return f"budget: {desk.broke}"
        if settings.idle_s is not None:
            gained = await desk.store.read(last_gain)
            idle = (utc_now() - gained).total_seconds() if gained else self.worked_s
            if min(idle, anyio.current_time() - self._began) >= settings.idle_s:
                return f"idle: {settings.idle_s / 3600:g} h without a newly passing case"
        if not desk.paused and not any(seat.model == OPEN for seat in desk.seats):
            names = {seat.name for seat in desk.seats}
            if await desk.store.read(lambda db: nothing_left(db, names)):
                return "nothing left: no task is ready and no seat works"
        return ""

    async def drain(self, state: RunState, reason: str, by: str, *, at_once: bool) -> None:
        """No new sessions; live ones are asked to submit or note, or, `at_once`, end at their next stored turn and go
        on there at a resume. Asking a draining run again only changes whether it ends at once."""
        desk = self.desk
        desk.stopping = desk.stopping or at_once
        desk.state_changed.ring()
        desk.board_changed.ring()
        if desk.draining:
            return
        self._end = (state, reason)
        desk.draining = reason
        desk.ledger.draining = True
        word = f"The run drains ({reason}): submit what is whole, or note and release."
        await desk.store.write(lambda tx: say(tx, "all", word))
        await self._turn(RunState.DRAINING, "run-draining", by=by, reason=reason)

    async def _settle(self) -> None:
        """Returns once a draining run may end: nobody works, nothing is queued, and main is judged on the held-out
        cases, each within its time. A run that is stopped at once waits for its seats' stored turns alone."""
        desk = self.desk
        with anyio.move_on_after(desk.settings.drain_s):
            async for _ in desk.board_changed.rings():
                if desk.stopping or not self._working():
                    break
        if self._working():
            await self.drain(*self._end, "run", at_once=True)
        with anyio.move_on_after(SUSPEND_S):
            async for _ in desk.board_changed.rings():
                if not self._seats_working:
                    break
        with anyio.move_on_after(HELDOUT_WAIT_S):
            while not (desk.stopping and self._end[0] is RunState.STOPPED):
                if self.heldout.idle.is_set() and not await desk.store.read(changes.live):
                    return
                await anyio.sleep(TICK_S)

    def _working(self) -> bool:
        return self._seats_working > 0 or self.open_seats.working

    # -- what people ask of a live run

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request over the run's socket. Raises `Refusal` in words."""
        desk, seats = self.desk, self.open_seats
        match request:
            case {"do": "ping"}:
                pass
            case {"do": "seat", "verb": "take", "role": str(role), "seat": str(name), "token": str(token)}:
                return await seats.take(role, name, token)
            case {"do": "seat", "verb": "call", "tool": str(tool), "arguments": dict(arguments), "token": str(token)}:
                return await seats.call(token, tool, arguments)
            case {"do": "seat", "verb": "last", "token": str(token)}:
                return await seats.last(token)
            case {"do": "seat", "verb": "board", "wait_s": float() | int() as wait_s, "token": str(token)}:
                return await seats.board(token, wait_s)
            case {"do": "seat", "verb": "leave", "token": str(token)}:
                return await seats.leave(token)
            case {"do": "pause", "now": bool(now), "by": str(by)}:
                desk.paused, desk.held = True, desk.held or now
                await self._turn(RunState.PAUSED, "run-paused", by=by, now=now)
            case {"do": "resume", "by": str(by)}:
                await self._resume(by)
            case {"do": "stop", "now": bool(now), "by": str(by)}:
                await self.drain(RunState.STOPPED, "stopped by hand", by, at_once=now)
            case {"do": "set", "key": "budget", "value": int(budget), "by": str(by)}:
                await self._set_budget(budget, by)
            case {"do": "say", "to": str(to), "text": str(text), "by": str(by)}:
                await desk.store.write(lambda tx: say(tx, to, text, by))
            case {"do": "reveal", "by": str(by)}:
                await desk.journal("revealed", by=by)
            case _:
                raise Refusal(f"this run knows no request {request}", "usage")
        return {}

    async def _resume(self, by: str) -> None:
        if self.desk.draining:
            raise Refusal("the run drains: wait until it has stopped, then resume")
        if self.desk.paused:
            self.desk.paused = self.desk.held = False
            await self._turn(RunState.RUNNING, "run-resumed", version=VERSION, by=by, sessions=0)

    async def _set_budget(self, budget: int, by: str) -> None:
        old = self.desk.settings
        new = old.model_copy(update={"budget": budget})

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET settings = ?", new.model_dump_json())
            tx.journal("condition-changed", what="budget", old=old.budget, new=budget, by=by)

        await self.desk.store.write(write)
        self.desk.settings = new
        self.desk.ledger.budget = Budget(budget, new.session_budget)


def say(tx: Tx, to: str, text: str, by: str = "") -> None:
    """Leaves a word of the run's, or of the person `by`, for one seat or for all."""
    for session in sessions.live(tx.db):
        if to in ("all", session.seat):
            sessions.say(tx, session.id, "person" if by else "run", text)
    if by:
        tx.journal("said", to=to, by=by, text=text)


def nothing_left(db: sqlite3.Connection, seats: Set[str]) -> bool:
    """Whether each seat has found nothing to do, and nobody works or waits."""
    idle = {row["seat"] for row in db.execute("SELECT DISTINCT seat FROM journal WHERE kind = 'seat-idle'")}
    return seats <= idle and not (sessions.live(db) or changes.live(db) or board.ready(db))


def kept(live: Iterable[Session]) -> frozenset[str]:
    """Names of the rooms that a resume goes on in, with the jobs that run there."""
    return frozenset(room_name(session) for session in live)


def last_gain(db: sqlite3.Connection) -> datetime | None:
    """When a case last newly passed on main."""
    gains = "SELECT at FROM journal WHERE kind = 'landed' AND json_extract(data, '$.gained') > 0"
    row = db.execute(f"{gains} ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else datetime.fromisoformat(row["at"])


def seats_of(roles: Mapping[str, int], settings: Settings) -> Sequence[Seat]:
    """The team: planners first, then the project's order."""
    shares = share_out(roles, settings.agents)
    order = sorted(shares, key=lambda role: role != "planner")
    names = [role for role in order for _ in range(shares[role])]
    return [
        Seat(f"agent-{number:02d}", role, settings.model_of(role), FIRST_USER + number)
        for number, role in enumerate(names, start=1)
    ]


def prices_of(models: Mapping[str, Model], settings: Settings) -> Prices:
    """genai-prices, before it what scripted teams declare (their price, and that no reply uses more than they say), and
    before both what the user declared."""
    scripted = {id: model for id, model in models.items() if isinstance(model, Scripted)}
    prices = {id: model.script.price for id, model in scripted.items()}
    declared = {id: price for id, price in prices.items() if price}
    most = {id: Usage(**model.script.usage) for id, model in scripted.items()}
    return Prices(declared | settings.prices, most)
