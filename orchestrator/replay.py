"""A recording as the order in which a run does things again: each step is held until those before it have happened.

What has happened is read from the state, so a replay that was killed goes on where it was. What seats do in their rooms
is held by main alone, and sees main through a view of its own, as it was in the recording; so rooms work at their own
speed, while everything that others can see happens in the recorded order.
"""

import hashlib
import json
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from orchestrator.queue import Staged
from orchestrator.recording import Quotes, Recording, Step
from orchestrator.signals import Bell
from orchestrator.store import Store, Tx
from orchestrator.watch.queries import DIVERGED
from orchestrator.watch.render import plural

QUIET: Final = 20  # looks of the run in a row at a replay in which nothing moves: more than a crashed seat waits first
GATE: Final = "gate"
NEVER: Final = 1 << 62  # the place of what is not in the recording
TERMINAL: Final = "('landed', 'bounced', 'withdrawn')"
ENDED: Final = f"SELECT id FROM change WHERE state IN {TERMINAL}"
DIVERGENCES: Final = "SELECT count(*) FROM journal WHERE kind = 'diverged'"
LACKING: Final = "SELECT data ->> 'what' FROM journal WHERE kind = 'diverged' AND data ->> 'now' = ? ORDER BY seq"
NEVER_CAME: Final = "never came"
WAITING: Final = "SELECT count(*) FROM session WHERE state = 'waiting'"
AT_WORK: Final = "SELECT id, state FROM change WHERE state IN ('queued', 'staged', 'judging')"
HAPPENED: Final = {
    "start": "SELECT 1 FROM session WHERE id = ?",
    "call": "SELECT 1 FROM call WHERE id = ?1 AND state = 'done' UNION SELECT 1 FROM change WHERE call = ?1",
    "stage": "SELECT 1 FROM change WHERE id = ? AND state <> 'queued'",
    "judge": "SELECT 1 FROM journal WHERE kind = 'judging' AND data ->> 'changes' = json(?1) "
    f"UNION SELECT 1 FROM change WHERE state IN {TERMINAL} AND id IN (SELECT value FROM json_each(?1))",
    "revert": "SELECT 1 FROM change WHERE call = 'revert of ' || ?",
    "change": f"SELECT 1 FROM change WHERE id = ? AND state IN {TERMINAL}",
    "end": "SELECT 1 FROM session WHERE id = ? AND state = 'ended'",
}
"""By what is stored: whether a step has happened."""
SKIPPED: Final = "not run again: in the recording it changed nothing in the workspace"
NAMES: Final = re.compile(r"/tmp/[\w.+-]+(?:/[\w.+-]+)*")


@dataclass(frozen=True)
class Played:
    """One session of a recording. `needed` are its calls, by id, that a replay cannot leave out."""

    start: Step
    end: Step | None
    turns: tuple[tuple[Step, ...], ...]
    needed: frozenset[str]

    @property
    def calls(self) -> list[Step]:
        return [step for turn in self.turns for step in turn]

    def jobs(self, step: Step) -> list[Step]:
        """Those that the session had begun by then, and that may go on."""
        calls = self.calls
        return [one for one in calls[: calls.index(step) + 1] if one.arguments.get("background")]


def needed(calls: Sequence[Step]) -> frozenset[str]:
    """Calls that changed the workspace, and those from which they may have something outside of it: a script in /tmp, a
    background job. A guess; where it is wrong the session is done again in full."""
    kept, names = set[str](), set[str]()
    for number, step in reversed(list(enumerate(calls))):
        words = set(NAMES.findall(" ".join(map(str, step.arguments.values()))))
        words |= {f"job {step.arguments.get('job')}"} if step.tool == "wait" else set()
        if step.in_room and (step.moved or names & (words | {f"job {number}"})):
            kept.add(step.id)
            names |= words
    return frozenset(kept)


@dataclass
class Replay:
    """The one recording that a run plays. `changed` rings when the run's state has changed."""

    recording: Recording
    folder: Path  # the run's
    store: Store
    changed: Bell
    full: bool = False
    real_pace: bool = False
    mains: list[str] = field(default_factory=list)  # commit ids of this run's, the seed's first
    broken: str = ""
    """Why there is no sense in going on: main is not what it was."""
    stopping: Callable[[], bool] = lambda: False
    busy: int = 0  # sessions that do something now
    _head: int = 0  # the first step of the order that has not happened
    _given_up: int = 0  # before it, what has not happened will not
    _held: set[str] = field(default_factory=set)
    _quiet: int = 0
    _looking: anyio.Lock = field(default_factory=anyio.Lock)
    _moved: Bell = field(default_factory=Bell)
    _began: tuple[float, datetime] | None = None

    def __post_init__(self) -> None:
        quotes = Quotes(self.folder / "team/cases")
        steps = [
            step.model_copy(update={"arguments": quotes.unfolded(step.arguments)}) for step in self.recording.steps
        ]
        self._steps = steps
        self._places: dict[tuple[str, str], int] = {(step.do, step.id): place for place, step in enumerate(steps)}
        self._order = [(place, step) for place, step in enumerate(steps) if not step.in_room]
        self._judged = list[tuple[Step, set[str]]]()  # judgements, each with what came to its end by it
        for step in steps:
            if step.do == "judge":
                self._judged.append((step, set()))
            elif step.do == "change" and self._judged and step.id in self._judged[-1][0].id.split():
                self._judged[-1][1].add(step.id)
        self.calls = {step.id: step for step in steps if step.do == "call"}
        ends = {step.id: step for step in steps if step.do == "end"}
        turns: dict[str, list[tuple[Step, ...]]] = {}
        calls = sorted(self.calls.values(), key=lambda step: [step.session, *map(int, step.id.rsplit(".", 2)[1:])])
        for turn, of_turn in groupby(calls, lambda step: step.id.rpartition(".")[0]):
            turns.setdefault(turn.rpartition(".")[0], []).append(tuple(of_turn))
        self.sessions = {
            step.id: Played(
                step,
                ends.get(step.id),
                of := tuple(turns.get(step.id, ())),
                needed([one for turn in of for one in turn]),
            )
            for step in steps
            if step.do == "start"
        }

    @property
    def most(self) -> int:
        """How many of its sessions lived at once."""
        alive = peak = 0
        for step in self.recording.steps:
            alive += (step.do == "start") - (step.do == "end")
            peak = max(peak, alive)
        return peak

    # -- what has happened

    async def keep(self) -> None:
        """Looks at the state whenever it changes, until cancelled."""
        async for _ in self.changed.rings():
            await self.look()

    async def look(self) -> None:
        async with self._looking:  # what was read later is newer
            was = self._head, len(self.mains)
            self._head, self.mains, wrong = await self.store.read(self._look)
        for step, now in wrong:
            await self.diverged(step, now)
        if was != (self._head, len(self.mains)):
            self._quiet = 0
        self._moved.ring()

    def _look(self, db: sqlite3.Connection) -> tuple[int, list[str], list[tuple[Step, str]]]:
        head, wrong = self._head, list[tuple[Step, str]]()
        while head < len(self._order):
            step = self._order[head][1]
            key = json.dumps(step.id.split()) if step.do == "judge" else step.id
            if head >= self._given_up and db.execute(HAPPENED[step.do], (key,)).fetchone() is None:
                break
            if step.do == "change" and (now := self._end(db, step)) != self._recorded(step):
                wrong.append((step, now))
            head += 1
        main = [row[0] for row in db.execute("SELECT commit_id FROM scorecard ORDER BY id LIMIT 1")]
        return head, main + [row[0] for row in db.execute("SELECT new FROM landing WHERE done ORDER BY number")], wrong

    def _end(self, db: sqlite3.Connection, step: Step) -> str:
        """`landed as 1234abcd`, or whatever became of the change."""
        row = db.execute("SELECT state, landed_as FROM change WHERE id = ?", (step.id,)).fetchone()
        state, commit = row or ("never handed in", "")
        return f"{state} as {commit}" if commit else str(state)

    def _recorded(self, step: Step) -> str:
        return f"landed as {self.recording.head.main[step.main]}" if step.kind == "landed" else step.kind

    async def diverged(self, step: Step, now: str, *, over: bool = False) -> None:
        """Writes down that a step came out otherwise. Another end of a change is another main: the replay is over, and
        nothing else lands."""
        was = self._recorded(step)
        if over or step.do == "change":
            self.broken = self.broken or f"{DIVERGED}{step.id} {now}, recorded: {was}"
        seat = step.session.rpartition("/")[0] if step.do == "call" else ""
        what = f"{step.id} {step.tool or step.do}"

        def tell(tx: Tx) -> None:  # once: an earlier process may have told it
            if tx.one("SELECT 1 FROM journal WHERE kind = 'diverged' AND data ->> 'what' = ?", what) is None:
                tx.journal("diverged", seat, what=what, recorded=was, now=now)

        await self.store.write(tell)

    # -- what is held

    async def hold(self, step: Step) -> None:
        """Returns when it is the step's turn: a call's in a room when main has come to where it was when the call was
        over (what landed meanwhile may be what it waited for), all others' when everything before them has happened."""
        with self._idle():
            await self._until(self._places[step.do, step.id], step.id, step.main if step.in_room else None)
        if self.real_pace and not self.stopping():
            now = anyio.current_time()
            began, first = self._began = self._began or (now, step.at)
            await anyio.sleep(max(0.0, (step.at - first).total_seconds() - (now - began)))

    async def reach(self, start: Step) -> None:
        """Returns when main has come to where a session's workspace was made, which may be later than its start."""
        with self._idle():
            await self._until(NEVER, start.id, start.main)

    @contextmanager
    def _idle(self) -> Iterator[None]:
        self.busy -= 1
        try:
            yield
        finally:
            self.busy += 1

    async def _until(self, place: int, who: str, main: int | None = None) -> None:
        turn = bisect_left(self._order, place, key=lambda pair: pair[0]) + (place == NEVER)

        def free() -> bool:
            there = self._head >= turn if main is None else len(self.mains) > main
            return there or bool(self.broken) or self.stopping()

        self._held.add(who)
        try:
            await self._moved.until(free)
        finally:
            self._held.remove(who)

    # `queue.Order`. What the recording does not hold never comes: its callers wait until they are cancelled.

    async def admit(self, change: str) -> bool:
        await self._in_order([("stage", change), ("change", change)], change)
        return ("stage", change) in self._places

    async def batch(self) -> Sequence[str]:
        ended = await self._ended()
        for step, ends in self._judged:
            if ends - ended:  # a kill may have come between two of them
                await self._in_order([("judge", step.id)], GATE)
                return [id for id in step.id.split() if id not in ended]
        await self._in_order([], GATE)
        return []

    async def before_bounce(self, changes: Sequence[str]) -> Collection[str]:
        await self._in_order([("change", change) for change in changes], GATE)
        ended = await self._ended()
        return next((now for _, ends in self._judged if (now := {*changes} & ends - ended)), changes)

    async def before_landing(self, stack: Sequence[Staged]) -> None:
        keys = [("change", one.change.id) for one in stack]
        await self._in_order(keys if self._places.keys() >= set(keys) else [], GATE)
        for key, one in zip(keys, stack, strict=True):
            step = self._steps[self._places[key]]
            if self._recorded(step) != f"landed as {one.commit}":
                await self.diverged(step, f"would land as {one.commit}")
                await anyio.sleep_forever()

    async def _in_order(self, keys: Sequence[tuple[str, str]], who: str) -> None:
        await self._until(min((self._places[key] for key in keys if key in self._places), default=NEVER), who)
        if self.stopping() or self.broken:
            await anyio.sleep_forever()

    async def _ended(self) -> set[str]:
        return await self.store.read(lambda db: {row[0] for row in db.execute(ENDED)})

    async def revert(self, change: str) -> datetime | None:
        """Returns when it is time for a change to be taken back, with the date of what does so; None where none did."""
        place = self._places.get(("revert", change))
        if place is None:
            return None
        with self._idle():
            await self._in_order([("revert", change)], f"revert of {change}")
        return self._steps[place].at

    def submitted(self, call: str) -> datetime | None:
        """When a change was handed in by this call, which is the date of its commit."""
        step = self.calls.get(call)
        return None if step is None else step.at

    # -- how it ends

    async def over(self) -> str:
        """Why the run should end, or "". Is asked again and again, and sees when nothing moves: then what everybody
        waits for is given up."""
        await self.look()  # not everything that is written down rings
        changes, waiting = await self.store.read(
            lambda db: (dict[str, str](db.execute(AT_WORK).fetchall()), db.execute(WAITING).fetchone()[0])
        )
        at_work = {GATE if state in ("staged", "judging") else id for id, state in changes.items()}
        still = self.busy <= waiting and at_work <= self._held
        self._quiet = self._quiet + 1 if still else 0
        if self.broken or (self._head == len(self._order) and self._quiet > 1):
            return self.broken or await self.store.read(summary)
        if self._quiet >= QUIET and self._head < len(self._order):
            self._quiet, self._given_up = 0, self._head + 1
            await self.diverged(self._order[self._head][1], NEVER_CAME)
            await self.look()
        return ""

    # -- what a session sees of main

    def main(self, place: int) -> str:
        """Main after so many landings, or where it is if it never came there."""
        return self.mains[min(place, len(self.mains) - 1)]

    def view(self, session: str) -> Path:
        """A repository of the run's objects with a main of its own."""
        return self.folder / "views" / f"{session.replace('/', '-')}.git"

    async def show(self, session: str, main: int) -> None:
        """From here on the session sees main as it was after so many landings."""
        await anyio.to_thread.run_sync(_show, self.view(session), self.folder / "public.git/objects", self.main(main))


def _show(view: Path, objects: Path, commit: str) -> None:
    if not (view / "HEAD").exists():
        for folder in ("objects/info", "refs/heads"):
            (view / folder).mkdir(parents=True, exist_ok=True)
        (view / "objects/info/alternates").write_text(f"{objects}\n")  # for who is not in a room
        (view / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
        (view / "HEAD").write_text("ref: refs/heads/main\n")
        for path in (view.parent, view, *view.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    new = view / "refs/heads/main.new"
    new.write_text(f"{commit}\n")
    new.chmod(0o644)
    new.replace(view / "refs/heads/main")


def summary(db: sqlite3.Connection) -> str:
    """`recording finished: 812 calls, 400 of them skipped, 0 divergences`, or what of its order never came."""
    for (what,) in db.execute(LACKING, (NEVER_CAME,)):
        return f"{DIVERGED}{what} {NEVER_CAME}"
    skipped = (hashlib.sha256(SKIPPED.encode()).hexdigest(),)
    calls = "SELECT count(*), count(*) FILTER (WHERE result = ?) FROM call WHERE state = 'done'"
    (done, left), (diverged,) = db.execute(calls, skipped).fetchone(), db.execute(DIVERGENCES).fetchone()
    return f"recording finished: {done} calls, {left} of them skipped, {plural(diverged, 'divergence')}"
