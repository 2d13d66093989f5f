"""The run itself: open, recover, go, drain, stop. One process owns it, in an epoch of its own."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
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
from orchestrator.project.freezing import Frozen, load_frozen
from orchestrator.project.furnishing import furnish, judge_plan
from orchestrator.records import RunState, Session, TaskSource
from orchestrator.repository import Repository
from orchestrator.roles import share_out
from orchestrator.seat import room_name, work
from orchestrator.settings import Declared, Settings
from orchestrator.store import Store, Tx, changes, sessions
from orchestrator.store.store import when
from orchestrator.watch.scribe import Scribe
from sandbox.engines import choose
from sandbox.home import state_home
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
        epoch = await store.begin_epoch()
        run = await Run.open(folder, store, epoch, stack)
        await run.recover()
        await run.go()


class Run:
    """One run in this process."""

    def __init__(self, desk: Desk, frozen: Frozen, heldout: HeldoutLane, gate: Gate) -> None:
        self.desk = desk
        self.frozen = frozen
        self.gate = gate
        self.heldout = heldout
        self.finished = anyio.Event()
        self.outcome = (RunState.STOPPED, "")
        self._began = anyio.current_time()
        self._gained_at = anyio.current_time()
        self._drained_at = 0.0
        self._suspended_at = 0.0
        self._worked_before = 0.0
        self._worked_noted = 0.0
        self._seats_working = 0
        self._open_seats: OpenSeats | None = None

    @classmethod
    async def open(cls, folder: Path, store: Store, epoch: int, stack: AsyncExitStack) -> Run:
        """Puts the run together from what was frozen. Raises what says why it cannot: image gone, no key, no engine."""
        settings = await store.read(settings_of)
        home = state_home()
        frozen = load_frozen(folder)
        project = frozen.project
        engine = choose(settings.sandbox, home)
        local = engine.name == "local"
        furnished = await furnish(project, home, local=local, progress=lambda line: log.info("furnish", line=line))
        repository = await Repository.open(folder)
        await repository.recover()
        judge_engine = engine if local else choose(None, home, judging=True)
        secret = await anyio.Path(folder / SECRET).read_bytes()
        label = f"{settings.name}-{hashlib.sha256(secret).hexdigest()[:8]}"
        scratch = home / "judges" / label

        def judge(lane: str, user: int, cores: int) -> RoomJudge:
            plan = judge_plan(project, furnished, frozen.cases, scratch=scratch / lane, secret=secret, cores=cores)
            made = RoomJudge(judge_engine, plan, Labels(label, epoch, lane), user)
            stack.push_async_callback(made.close)
            return made

        await judge_engine.sweep(label, epoch, kept(await store.read(sessions.live)))
        models = {id: make(path, os.environ) for id, path in thawed_models(folder, settings).items() if id != OPEN}
        gate = Gate(store, repository, judge("gate", JUDGE_USER, settings.judge_cores), settings.name, utc_now)
        heldout = HeldoutLane(store, repository, judge("heldout", HELDOUT_USER, 1), gate)
        desk = Desk(
            folder=folder,
            project=project,
            prompts=frozen.prompts,
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
            verifying=anyio.CapacityLimiter(1),
        )
        return cls(desk, frozen, heldout, gate)

    async def recover(self) -> None:
        """Everything an earlier process left between two steps is finished, given back, or put where it goes on."""
        desk = self.desk
        live = await desk.store.read(sessions.live)
        swept = await desk.engine.sweep(desk.label, desk.store.epoch, kept(live))
        await self.gate.recover()

        def take_over(tx: Tx) -> None:
            desk.ledger.recover(tx)
            board.recover(tx, {session.id for session in live})
            row = tx.one("SELECT worked_s, state FROM run")
            assert row is not None
            self._worked_before = row["worked_s"]
            tx.run("UPDATE run SET state = ?, reason = ''", RunState.RUNNING)
            if tx.one("SELECT 1 FROM journal WHERE kind = 'run-started'") is None:
                self._journal_start(tx)
            else:
                facts = {"version": VERSION, "by": control.who(), "sessions": len(live)}
                tx.journal("run-resumed", **facts)
            if swept:
                tx.journal("swept", count=swept)

        await desk.store.write(take_over)

    def _journal_start(self, tx: Tx) -> None:
        desk, lock = self.desk, self.frozen.lock
        facts = {"name": desk.name, "project": lock.project, "lock": lock.digests["project"], "by": control.who()}
        tx.journal("run-started", agents=desk.settings.agents, models=dict(desk.settings.models), **facts)
        ids: dict[str, str] = {}
        for planned in desk.project.plan:
            after = [ids[name] for name in planned.after]
            made = board.add_task(
                tx,
                planned.title,
                TaskSource.PROJECT,
                by="project",
                why=planned.why,
                cases=planned.cases,
                touches=planned.touches,
                after=after,
            )
            ids[planned.name] = made.id

    async def go(self) -> None:
        """Works until the run has ended or is stopped; then everything is written down and the process may end."""
        desk = self.desk
        scribe = Scribe(desk.folder)
        async with anyio.create_task_group() as tasks_of_run:
            self._open_seats = OpenSeats(desk, [seat for seat in desk.seats if seat.model == OPEN], tasks_of_run)
            async with control.listening(desk.folder, self.answer):
                await self.gate.judge_main()
                for keep in (self.gate.keep, scribe.keep, self._keep_lock_files, self._watch):
                    tasks_of_run.start_soon(keep)
                if any(case.heldout for case in self.frozen.cases):
                    tasks_of_run.start_soon(self.heldout.keep)
                else:
                    self.heldout.idle.set()
                await self._open_seats.recover()
                for seat in desk.seats:
                    if seat.model != OPEN:
                        tasks_of_run.start_soon(self._work, seat)
                tasks_of_run.start_soon(self._ring_board)
                await self.finished.wait()
                tasks_of_run.cancel_scope.cancel()
        await self._write_end()
        await desk.engine.sweep(desk.label, desk.store.epoch + 1)  # unmounts workspaces; a resume finds their disks
        await anyio.to_thread.run_sync(scribe.catch_up)

    async def _work(self, seat: Seat) -> None:
        self._seats_working += 1
        try:
            await work(seat, self.desk)
        finally:
            self._seats_working -= 1

    async def _ring_board(self) -> None:
        """What the gate moved may have changed the board."""
        heard = self.gate.moved.heard
        while True:
            heard = await self.gate.moved.wait(heard)
            self.desk.board_changed.ring()

    async def _keep_lock_files(self) -> None:
        heard = self.desk.board_changed.heard
        while True:
            locks = await self.desk.store.read(lockfiles.locks)
            await anyio.to_thread.run_sync(lockfiles.sync, self.desk.folder / "current_tasks", locks)
            heard = await self.desk.board_changed.wait(heard)

    # -- how a run ends

    async def _watch(self) -> None:
        """Drains the run by its own rules, and ends it once nothing is live any more."""
        while True:
            await anyio.sleep(TICK_S)
            if self.worked_s - self._worked_noted >= NOTE_WORK_S:
                await self._note_work()
            if not self.desk.draining:
                reason = await self._own_end()
                if reason:
                    await self.drain(reason, "run", RunState.ENDED)
            elif await self._settled():
                self.finished.set()
                return

    async def _note_work(self) -> None:
        """Writes down how long the run has worked, so that a crash costs its limit in hours next to nothing."""
        worked = self._worked_noted = self.worked_s
        await self.desk.store.write(lambda tx: tx.run("UPDATE run SET worked_s = ?", worked))

    @property
    def worked_s(self) -> float:
        return self._worked_before + anyio.current_time() - self._began

    async def _own_end(self) -> str:
        """Why the run should end by its own rules, or ""."""
        desk, settings = self.desk, self.desk.settings
        card = await self.gate.judge_main()
        if card.verdicts and card.passed() == card.verdicts.keys():
            return "goal: every shown case passes"
        if settings.hours is not None and self.worked_s >= settings.hours * 3600:
            return f"hours: {settings.hours:g} h of work"
        if desk.broke:
            return f"budget: {desk.broke}"
        gained = await desk.store.read(last_gain)
        idle = (utc_now() - gained).total_seconds() if gained else self.worked_s
        if settings.idle_s is not None and min(idle, anyio.current_time() - self._began) >= settings.idle_s:
            return f"idle: {settings.idle_s / 3600:g} h without a newly passing case"
        if await self._nothing_left():
            return "nothing left: no task is ready and no seat works"
        return ""

    async def _nothing_left(self) -> bool:
        desk = self.desk
        if desk.paused or any(seat.model == OPEN for seat in desk.seats):
            return False

        def read(tx: Tx) -> bool:
            idle = {row["seat"] for row in tx.all("SELECT DISTINCT seat FROM journal WHERE kind = 'seat-idle'")}
            busy = sessions.live(tx.db) or changes.live(tx.db) or board.ready(tx.db)
            return not busy and idle >= {seat.name for seat in desk.seats}

        return await desk.store.write(read)

    async def drain(self, reason: str, by: str, state: RunState) -> None:
        """No new sessions; live ones are asked to submit or note. Asking again only changes who asked."""
        desk = self.desk
        if desk.draining:
            return
        self.outcome = (state, reason)
        self._drained_at = anyio.current_time()
        desk.draining = reason
        desk.ledger.draining = True
        if state is RunState.ENDED and reason.startswith("goal"):
            self._suspend()
        live = await desk.store.read(sessions.live)
        word = f"The run drains ({reason}): submit what is whole, or note and release."

        def tell(tx: Tx) -> None:
            tx.run("UPDATE run SET state = ?, reason = ?", RunState.DRAINING, reason)
            tx.journal("run-draining", by=by, reason=reason)
            for session in live:
                sessions.say(tx, session.id, "run", word)

        await desk.store.write(tell)
        desk.board_changed.ring()
        desk.state_changed.ring()

    async def stop(self, now: bool, by: str) -> None:
        """Drains; `now`: every session ends at its next stored turn, and goes on there at a resume."""
        await self.drain("stopped by hand", by, RunState.STOPPED)
        if now:
            self._suspend()

    def _suspend(self) -> None:
        if not self.desk.stopping:
            self.desk.stopping = True
            self._suspended_at = anyio.current_time()
            self.desk.state_changed.ring()

    async def _settled(self) -> bool:
        """Whether a draining run may end: nobody works, nothing is queued, and main is judged on the held-out cases."""
        desk, now = self.desk, anyio.current_time()
        late = now - self._drained_at > desk.settings.drain_s
        if late:
            self._suspend()
        assert self._open_seats is not None
        if desk.stopping:
            working = self._seats_working > 0 and now - self._suspended_at <= SUSPEND_S
        else:
            working = self._seats_working > 0 or self._open_seats.working
        if desk.stopping and self.outcome[0] is RunState.STOPPED:
            return not working
        queued = await desk.store.read(changes.live)
        if not late and (working or queued):
            return False
        return self.heldout.idle.is_set() or now - self._drained_at > HELDOUT_WAIT_S

    async def _write_end(self) -> None:
        state, reason = self.outcome
        worked = self.worked_s

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET state = ?, reason = ?, worked_s = ?", state, reason, worked)
            if state is RunState.ENDED:
                tx.journal("run-ended", reason=reason)
            else:
                tx.journal("run-stopped", by=control.who(), reason=reason)

        await self.desk.store.write(write)

    # -- what people ask of a live run

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request over the run's socket. Raises `Refusal` in words."""
        verb, by = request.get("do"), str(request.get("by", ""))
        match verb:
            case "ping":
                return {"epoch": self.desk.store.epoch}
            case "seat":
                return await self._seat(request)
            case "pause":
                await self._pause(bool(request.get("now")), by)
            case "resume":
                await self._unpause(by)
            case "stop":
                await self.stop(bool(request.get("now")), by)
            case "set":
                await self._set(str(request["key"]), request["value"], by)
            case "say":
                return {"told": await self._say(str(request.get("to", "")), str(request["text"]), by)}
            case "reveal":
                await self.desk.journal("revealed", by=by)
            case "task-add":
                return {"task": await self._add_task(request, by)}
            case "task-drop":
                name, reason = str(request["task"]), str(request.get("reason", "dropped by hand"))
                await self._board(lambda tx: board.drop_task(tx, name, reason, by))
            case _:
                raise Refusal(f"this run knows no request {verb!r}", "usage")
        return {}

    async def _seat(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._open_seats is not None
        token = str(request.get("token", ""))
        match request.get("verb"):
            case "take":
                return await self._open_seats.take(str(request.get("role", "")), str(request.get("seat", "")), token)
            case "call":
                return await self._open_seats.call(token, str(request["tool"]), dict(request["arguments"]))
            case "last":
                return await self._open_seats.last(token)
            case "board":
                return await self._open_seats.board(token, float(request.get("wait_s", 0)))
            case "leave":
                return await self._open_seats.leave(token)
            case other:
                raise Refusal(f"an open seat knows no {other!r}", "usage")

    async def _board(self, change: Callable[[Tx], Any]) -> Any:
        try:
            return await self.desk.store.write(change)
        except board.Refused as refusal:
            raise Refusal(str(refusal)) from refusal
        finally:
            self.desk.board_changed.ring()

    async def _add_task(self, request: dict[str, Any], by: str) -> str:
        known = self.desk.shown_cases
        made = await self._board(
            lambda tx: board.add_task(
                tx,
                str(request["title"]),
                TaskSource.PERSON,
                by=by,
                why=str(request.get("why", "")),
                cases=request.get("cases") or (),
                touches=request.get("touches") or (),
                known=known,
            )
        )
        return str(made.id)

    async def _pause(self, now: bool, by: str) -> None:
        self.desk.paused, self.desk.held = True, self.desk.held or now

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET state = ?", RunState.PAUSED)
            tx.journal("run-paused", by=by, now=now)

        await self.desk.store.write(write)

    async def _unpause(self, by: str) -> None:
        if self.desk.draining:
            raise Refusal("the run drains: wait until it has stopped, then resume")
        if self.desk.paused:

            def write(tx: Tx) -> None:
                tx.run("UPDATE run SET state = ?", RunState.RUNNING)
                tx.journal("run-resumed", version=VERSION, by=by, sessions=0)

            self.desk.paused = self.desk.held = False
            await self.desk.store.write(write)
            self.desk.state_changed.ring()
            self.desk.board_changed.ring()

    async def _set(self, key: str, value: Any, by: str) -> None:
        old = getattr(self.desk.settings, key, None)
        if key not in ("budget", "hours"):
            raise Refusal(f"{key} cannot be set while the run works; budget and hours can", "usage")
        new = self.desk.settings.model_copy(update={key: value})

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET settings = ?", new.model_dump_json())
            tx.journal("condition-changed", what=key, old=old, new=value, by=by)

        await self.desk.store.write(write)
        self.desk.settings = new
        self.desk.ledger.budget = Budget(new.budget, new.session_budget)

    async def _say(self, to: str, text: str, by: str) -> int:
        """Leaves a word for one seat, or for all."""

        def write(tx: Tx) -> int:
            heard = [session for session in sessions.live(tx.db) if to in ("", "all", session.seat, session.id)]
            for session in heard:
                sessions.say(tx, session.id, "person", text)
            tx.journal("said", to=to or "all", by=by, text=text)
            return len(heard)

        return await self.desk.store.write(write)


def settings_of(db: sqlite3.Connection) -> Settings:
    return Settings.model_validate_json(db.execute("SELECT settings FROM run").fetchone()["settings"])


def kept(live: Iterable[Session]) -> frozenset[str]:
    """Names of the rooms that a resume goes on in, with the jobs that run there."""
    return frozenset(room_name(session) for session in live)


def last_gain(db: sqlite3.Connection) -> datetime | None:
    """When a case last newly passed on main."""
    gains = "SELECT at FROM journal WHERE kind = 'landed' AND json_extract(data, '$.gained') > 0"
    row = db.execute(f"{gains} ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else when(row["at"])


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
    declared = {
        id: Declared.model_validate(model.script.price.model_dump())
        for id, model in scripted.items()
        if model.script.price
    }
    most = {id: Usage(**model.script.usage) for id, model in scripted.items()}
    return Prices(declared | settings.prices, most)
