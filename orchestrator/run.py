"""The run itself: open, recover, go, drain, stop. One process owns it, in an epoch of its own."""

import gc
import hashlib
import os
import sqlite3
from collections.abc import Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from pydantic import validate_call

from agents.models.choose import MINDLESS, make
from orchestrator import VERSION, board, briefing, control
from orchestrator.after import After
from orchestrator.control import Refusal
from orchestrator.desk import Desk
from orchestrator.excused import flaky, waive
from orchestrator.freezing import SECRET, Frozen, load_frozen, replayed, thawed
from orchestrator.gate import Gate
from orchestrator.keeping import room_name
from orchestrator.ledger import Ledger
from orchestrator.open_seats import OpenSeats
from orchestrator.prices import prices_of
from orchestrator.project.furnishing import JUDGE_WEIGHT, Furnished, furnish, judge_plan
from orchestrator.recorded_seats import RecordedSeats
from orchestrator.recording import JUDGED
from orchestrator.records import RunState, TaskSource
from orchestrator.replay import Replay
from orchestrator.repository import Repository
from orchestrator.seat import again, work
from orchestrator.settings import set_budget, settings_of
from orchestrator.store import Store, Tx, changes, sessions
from orchestrator.store.store import utc_now
from orchestrator.watch.journal import Scribe
from orchestrator.watch.queries import SQL
from sandbox import faults
from sandbox.engines import choose
from sandbox.keep import state_home
from sandbox.room import Engine, Labels
from verifiers.cache import Memory, Verdicts
from verifiers.judge import RoomJudge
from verifiers.scorecard import Tier

log = structlog.get_logger()

TICK_S: Final = 0.5
GARBAGE: Final = (20_000, 20, 50)  # transcripts are many objects that live long: by default each is looked at often
LOCKS_EVERY_S: Final = 0.5  # how far the lock files may lag behind: writing them is work for each claim there is
JUDGE_USER, VERIFY_USER = 1, 3
LANE_USERS: Final = {Tier.HELDOUT: 2, Tier.MAIN: 4}
HELDOUT_WAIT_S: Final = 900.0  # how long the end of a run waits for what is judged after landing
SUSPEND_S: Final = 60.0  # how long a stop waits for sessions to reach a stored turn


async def serve(folder: Path) -> None:
    """The whole life of a run's process: takes the run over, recovers, works until it ends or is stopped."""
    folder = await anyio.to_thread.run_sync(folder.absolute)
    async with AsyncExitStack() as stack:
        store = Store(folder / "state.db", utc_now)
        stack.push_async_callback(store.close)
        await store.begin_epoch()
        faults.at("epoch-begun")
        run = await Run.open(folder, store, stack)
        await run.recover()
        await run.go()


@dataclass
class Run:
    """One run in this process."""

    desk: Desk
    after: After
    open_seats: OpenSeats = field(init=False)
    _end: tuple[RunState, str] = (RunState.STOPPED, "")  # and why; once it is written down that the run drains
    _began: float = field(default_factory=anyio.current_time)
    _worked_before: float = 0.0

    @classmethod
    async def open(cls, folder: Path, store: Store, stack: AsyncExitStack) -> "Run":
        """Puts the run together from what was frozen. Raises what says why it cannot: image gone, no key, no engine."""
        settings = await store.read(settings_of)
        home = state_home()
        frozen = load_frozen(folder)
        project = frozen.project
        engine = choose(settings.sandbox, home)
        furnished = await furnish(project, engine, home, lambda line: log.info("furnish", line=line))
        repository = Repository(folder)
        await repository.recover()
        faults.at("repository-recovered")
        judge_engine = engine if engine.name == "local" else choose(None, home, judging=True)
        secret = await anyio.Path(folder / SECRET).read_bytes()
        label = f"{settings.name}-{hashlib.sha256(secret).hexdigest()[:8]}"

        kept = home / "judges" / label
        verdicts = Verdicts(kept / "verdicts")
        stack.push_async_callback(verdicts.close)
        memory = Memory(verdicts)
        drawn = secret[:JUDGED]  # what a replay has behind it is its own: two of one recording are two runs

        def judge(lane: str, user: int, cores: int, weight: int = JUDGE_WEIGHT) -> RoomJudge:
            given = (furnished, frozen.cases)
            plan = judge_plan(*given, scratch=kept / lane, secret=drawn, cores=cores, weight=weight)
            made = RoomJudge(judge_engine, plan, Labels(label, store.epoch, lane), user, memory)
            stack.push_async_callback(made.close)
            return made

        await _clear(store, engine, judge_engine, label, kept)
        faults.at("rooms-swept")
        await store.write(lambda tx: _tell_what_changed(tx, frozen, furnished))
        models = {id: make(thawed(folder, id), os.environ) for id in settings.models.values() if id not in MINDLESS}
        verify = judge("verify", VERIFY_USER, settings.verify_cores)
        gate = Gate(store, repository, judge("gate", JUDGE_USER, settings.judge_cores), verify, settings.name)
        if recording := replayed(folder):
            gate.run, full = recording.head.run, settings.replay == "full"
            gate.replay = Replay(recording, folder, store, gate.changed, full, settings.pace == "real")
        submitting, slow = anyio.Lock(), [suite for suite in project.suites if suite.when == "main"]
        lanes = {Tier.MAIN: "main"} if slow else {}
        lanes |= {Tier.HELDOUT: "heldout"} if any(case.heldout for case in frozen.cases) else {}
        # A core each, at the seats' weight: what others wait for goes before.
        beside = {tier: judge(lane, LANE_USERS[tier], 1, weight=1) for tier, lane in lanes.items()}
        reverting = {suite.name for suite in slow if suite.revert}
        after = After(store, repository, beside, reverting, gate.changed, submitting, gate.replay)
        desk = Desk(
            folder=folder,
            frozen=frozen,
            settings=settings,
            store=store,
            repository=repository,
            judge=verify,
            gate=gate,
            ledger=Ledger(prices_of(models, settings.prices), settings.budget, settings.session_budget),
            engine=engine,
            label=label,
            rooms=home / "workspaces" / label,
            root=furnished.images.get("image"),
            sources={name: furnished.sources[name].folder for name, one in project.sources.items() if one.show},
            models=models,
            shown_cases=frozenset(case.id for case in frozen.cases if not case.heldout),
            changed=gate.changed,
            submitting=submitting,
            replay=gate.replay,
        )
        return cls(desk, after)

    async def recover(self) -> None:
        """Everything an earlier process left between two steps is finished, given back, or put where it goes on."""
        desk = self.desk
        await desk.gate.recover()
        faults.at("landing-recovered")

        def take_over(tx: Tx) -> float:
            run = tx.db.execute(SQL["run"], {"alive": False, "at": ""}).fetchone()
            live = sessions.live(tx.db)
            desk.ledger.recover(tx)
            board.recover(tx, {session.id for session in live})
            tx.run("UPDATE run SET state = ?, reason = ''", RunState.RUNNING)
            if tx.one("SELECT 1 FROM journal WHERE kind = 'run-started'"):
                tx.journal("run-resumed", version=VERSION, by=control.who(), sessions=len(live))
            else:
                self._plan(tx)
            return float(run["elapsed_s"] or 0)

        self._worked_before = await desk.store.write(take_over)
        faults.at("taken-over")

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
        gc.set_threshold(*GARBAGE)
        scribe = Scribe(desk.folder)
        async with anyio.create_task_group() as tasks_of_run:
            self.open_seats = OpenSeats(desk, tasks_of_run)
            async with control.listening(desk.folder, self.answer):
                faults.at("listening")
                await desk.gate.open()
                for keep in (
                    desk.gate.keep,
                    self.after.keep,
                    scribe.keep,
                    self._keep_lock_files,
                    self.open_seats.keep,
                ):
                    tasks_of_run.start_soon(keep)
                await self.open_seats.recover()
                for seat in desk.seats:
                    if seat.model not in MINDLESS:
                        tasks_of_run.start_soon(again, seat, desk, partial(work, seat, desk))
                if desk.replay:
                    desk.replay.stopping = lambda: desk.stopping
                    await desk.replay.look()
                    tasks_of_run.start_soon(desk.replay.keep)
                    recorded = RecordedSeats(desk, desk.replay)
                    for seat in recorded.hosts():
                        tasks_of_run.start_soon(again, seat, desk, partial(recorded.work, seat))
                await self._watch()
                await self._settle()
                faults.at("settled")
                tasks_of_run.cancel_scope.cancel()
        state, reason = self._end
        by = {} if state is RunState.ENDED else {"by": control.who()}
        await self._turn(state, f"run-{state}", reason=reason, **by)
        await desk.engine.sweep(desk.label, desk.store.epoch + 1)  # unmounts workspaces; a resume finds their disks
        await anyio.to_thread.run_sync(scribe.catch_up)

    async def _keep_lock_files(self) -> None:
        async for _ in self.desk.changed.rings():
            locks = await self.desk.store.read(briefing.locks)
            await anyio.to_thread.run_sync(briefing.sync_locks, self.desk.folder / "current_tasks", locks)
            await anyio.sleep(LOCKS_EVERY_S)

    async def _turn(self, state: RunState, kind: str, **facts: object) -> None:
        """Puts the run into a state, and journals why; whoever waits for it looks again."""

        def write(tx: Tx) -> None:
            tx.run("UPDATE run SET state = ?, reason = ?", state, facts.get("reason", ""))
            tx.journal(kind, **facts)

        await self.desk.store.write(write)
        self.desk.changed.ring()

    # -- how a run ends

    async def _watch(self) -> None:
        """Returns once the run drains, by its own rules or because somebody stops it."""
        while not self._end[1]:  # not before: who asked for it must get an answer from this process
            await anyio.sleep(TICK_S)
            if not self.desk.draining and (reason := await self._own_end()):
                await self.drain(RunState.ENDED, reason, "run", at_once=reason.startswith(("goal", "recording")))

    async def _own_end(self) -> str:
        """Why the run should end by its own rules, or ""."""
        desk, settings = self.desk, self.desk.settings
        card, here_s = await desk.gate.judge_main(), anyio.current_time() - self._began
        if settings.hours is not None and self._worked_before + here_s >= settings.hours * 3600:
            return f"hours: {settings.hours:g} h of work"
        if desk.replay:
            return await desk.replay.over()
        if card.verdicts and card.passed() == card.verdicts.keys() and not await desk.store.read(flaky):
            main = await desk.repository.main()
            if await desk.store.read(partial(self.after.all_pass, main=main)):
                return "goal: every shown case passes"
        if desk.broke:
            return f"budget: {desk.broke}"
        if settings.idle_s is not None:
            gained = await desk.store.read(last_gain)
            if min(here_s, (utc_now() - gained).total_seconds() if gained else here_s) >= settings.idle_s:
                return f"idle: {settings.idle_s / 3600:g} h without a newly passing case"
        names = {seat.name for seat in desk.seats}
        if not desk.paused and await desk.store.read(lambda db: nothing_left(db, names)):
            return "nothing left: no task is ready and no seat works"
        return ""

    async def drain(self, state: RunState, reason: str, by: str, *, at_once: bool) -> None:
        """No new sessions; live ones are asked to submit or note, or, `at_once`, end at their next stored turn and go
        on there at a resume. Asking a draining run again only changes whether it ends at once."""
        desk = self.desk
        desk.stopping = desk.stopping or at_once
        desk.changed.ring()
        if desk.draining:
            self._end = (state, reason) if state is RunState.STOPPED else self._end
            return
        desk.draining = reason
        desk.ledger.draining = True
        word = f"The run drains ({reason}): submit what is whole, or note and release."
        await desk.store.write(lambda tx: say(tx, "all", word))
        await self._turn(RunState.DRAINING, "run-draining", by=by, reason=reason)
        self._end = (state, reason)

    async def _settle(self) -> None:
        """Returns once a draining run may end: nobody works, nothing is queued, and main is judged after landing,
        each within its time. A run that is stopped at once waits for its seats' stored turns alone."""
        desk = self.desk
        with anyio.move_on_after(desk.settings.drain_s):
            await desk.changed.until(lambda: desk.stopping or not desk.working)
        if desk.working:
            await self.drain(*self._end, "run", at_once=True)
        with anyio.move_on_after(SUSPEND_S):
            await desk.changed.until(lambda: all(seat.model in MINDLESS for seat in desk.working))

        def over(db: sqlite3.Connection) -> bool:
            """What a recording left undone stays so."""
            return self.after.done(db) and (desk.replay is not None or not (changes.live(db) or waiting(db)))

        with anyio.move_on_after(HELDOUT_WAIT_S):
            while not (desk.stopping and self._end[0] is RunState.STOPPED):
                if await desk.store.read(over):
                    return
                await anyio.sleep(TICK_S)

    # -- what people ask of a live run

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request over the run's socket. Raises `Refusal` in words."""
        desk = self.desk
        match request:
            case {"do": "seat", "by": _, "verb": "take" | "call" | "last" | "board" | "leave" as verb, **given}:
                answer: dict[str, Any] = await validate_call(getattr(self.open_seats, verb))(**given)
                return answer
            case {"do": "pause", "now": bool(now), "by": str(by)}:
                desk.paused, desk.held = True, desk.held or now
                await self._turn(RunState.PAUSED, "run-paused", by=by, now=now)
            case {"do": "resume", "by": str(by)}:
                if desk.draining:
                    raise Refusal("the run drains: wait until it has stopped, then resume")
                if desk.paused:
                    desk.paused = desk.held = False
                    await self._turn(RunState.RUNNING, "run-resumed", version=VERSION, by=by, sessions=0)
            case {"do": "stop", "now": bool(now), "by": str(by)}:
                await self.drain(RunState.STOPPED, "stopped by hand", by, at_once=now)
            case {"do": "set", "key": "budget", "value": int(budget), "by": str(by)}:
                desk.settings = await desk.store.write(lambda tx: set_budget(tx, budget, by))
                desk.ledger.budget = budget
            case {"do": "waive", "cases": list(cases), "reason": str(reason), "until": end, "by": str(by)}:
                until = datetime.fromisoformat(end).astimezone(UTC) if end else None
                names = [str(case) for case in cases]
                await desk.store.write(lambda tx: waive(tx, names, reason, until, by))
                desk.changed.ring()
            case {"do": "say", "to": str(to), "text": str(text), "by": str(by)}:
                if to not in ("all", *(seat.name for seat in desk.seats)):
                    raise Refusal(f"this run has no seat {to}", "not_found")
                await desk.store.write(lambda tx: say(tx, to, text, by))
            case {"do": "reveal", "by": str(by)}:
                await desk.journal("revealed", by=by)
            case _:
                raise Refusal(f"this run knows no request {request}", "usage")
        return {}


async def _clear(store: Store, engine: Engine, judges: Engine, label: str, kept: Path) -> None:
    """Ends what an earlier process left in rooms, and removes what its judges worked in. The rooms that a resume goes
    on in stay, with the jobs that run there."""
    going_on = frozenset(room_name(session) for session in await store.read(sessions.live))
    swept = sum([await one.sweep(label, store.epoch, going_on) for one in {engine, judges}])
    async for left in anyio.Path(kept).glob("*/*"):  # artifacts and cases of judgements that a kill has cut
        await judges.discard(Path(left))
    if swept:
        await store.write(lambda tx: tx.journal("swept", count=swept))


def _tell_what_changed(tx: Tx, frozen: Frozen, furnished: Furnished) -> None:
    """What was built again because nothing of it was kept, from mirrors that had moved on."""
    for name, now in furnished.digests().items():
        old = frozen.lock.digests.get(name, now)
        if old != now:
            tx.journal("condition-changed", what=name, old=old, new=now, by="run")


def say(tx: Tx, to: str, text: str, by: str = "") -> None:
    """Leaves a word of the run's, or of the person `by`, for one seat or for all. Raises `Refusal` to a person whom
    nobody would hear."""
    heard = [session for session in sessions.live(tx.db) if to in ("all", session.seat)]
    if by and not heard:
        raise Refusal(f"nobody would hear it: no session lives now{'' if to == 'all' else f' in {to}'}")
    for session in heard:
        sessions.say(tx, session.id, "person" if by else "run", text)
    if by:
        tx.journal("said", to=to, by=by, text=text)


def waiting(db: sqlite3.Connection) -> bool:
    """Whether a session waits for a verdict, or for its seat's other change to hand in its own."""
    return db.execute("SELECT 1 FROM session WHERE state = 'waiting'").fetchone() is not None


def nothing_left(db: sqlite3.Connection, seats: Set[str]) -> bool:
    """Whether each seat has found nothing to do, which an open one never says, and nobody works or waits."""
    idle = {row["seat"] for row in db.execute("SELECT DISTINCT seat FROM journal WHERE kind = 'seat-idle'")}
    promises = changes.promises(db)  # of which those that landed are still judged
    held = any(board.promised_by(task, promises) for task in board.open_tasks(db))
    return seats <= idle and not (sessions.live(db) or changes.live(db) or board.ready(db) or held)


def last_gain(db: sqlite3.Connection) -> datetime | None:
    """When a case last newly passed on main."""
    gains = "SELECT at FROM journal WHERE kind = 'landed' AND json_extract(data, '$.gained') > 0"
    row = db.execute(f"{gains} ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else datetime.fromisoformat(row["at"])
