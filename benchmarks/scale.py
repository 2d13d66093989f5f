"""`python -m benchmarks.scale`: many seats in one process, each a scripted model that thinks for two seconds.

A whole run (`Run.go`: seats, board, ledger, store, gate, log files, lock files) whose sessions call verbs only: each
claims a task, writes notes, looks at the board now and then, and gives the task back after twelve turns. No room: what
would open one is replaced by a room that fails when it is touched. So what is measured is the orchestrator, and nothing
of the commands that agents run; `submit` needs a room and is not in it.

Rows are over `--seconds`, some think times after the last seat has begun: model turns a second (at most seats /
think time), share of one core, peak memory, and 95th percentiles in milliseconds: of a claim (the verb, to its stored
answer), of an append (any write to the store), and of how late the event loop wakes a task that slept 50 ms.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from agents.models.base import ToolCall
from agents.tools import Answer
from benchmarks.team import Played, a_run, call
from orchestrator import seat
from orchestrator.after import After
from orchestrator.run import Run
from orchestrator.store import Store, Tx
from orchestrator.verbs import Verbs
from sandbox.room import Command, OnOutput, Result

TURNS: Final = 12  # of a session
HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    seats: int
    turns_per_s: float
    cores: float
    peak_mib: float
    claim_p95_ms: float | None
    append_p95_ms: float | None
    loop_lag_p95_ms: float | None


class Untouchable:
    """A room in which nothing may happen; also the engine that would make it."""

    name = "none"

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        raise AssertionError("a verb-only turn touched its room")

    start = job = kill = write = read = open = run

    async def discard(self, workspace: Path) -> None: ...

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return 0


@dataclass
class Watch:
    """What is timed, while it is on."""

    on: bool = False
    turns: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        if self.on:
            self.seconds.setdefault(what, []).append(seconds)

    def p95_ms(self, what: str) -> float | None:
        """None where nothing was seen."""
        seen = self.seconds.get(what, [])
        return round(1000 * statistics.quantiles(seen, n=20)[18], 1) if len(seen) > 1 else None


def replies(watch: Watch, opening: str, turn: int) -> list[ToolCall] | str:
    watch.turns += watch.on
    if turn == 1:
        number = int(opening.partition(",")[0].rpartition("-")[2])  # "You are agent-07, …"
        return [call("claim", turn, task=f"T{number}")]
    if turn == TURNS:
        return "Nothing is left to do."  # the session's end gives the task back; `release` would pack a workspace
    if turn % 6 == 0:
        return [call("tasks", turn)]
    return [call("note", turn, topic="parser", text=f"What I found in turn {turn}.")]


def timing(watch: Watch) -> Callable[[], None]:
    """Times claims and writes from here on; returns what ends it."""
    do, write = Verbs.do, Store.write

    async def timed_do(self: Verbs, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        began = time.perf_counter()
        answer = await do(self, verb, call_id, arguments)
        watch.add(verb, time.perf_counter() - began)
        assert not answer.refused, answer.text
        return answer

    async def timed_write(self: Store, work: Callable[[Tx], Any]) -> Any:
        began = time.perf_counter()
        try:
            return await write(self, work)
        finally:
            watch.add("append", time.perf_counter() - began)

    def end() -> None:
        Verbs.do, Store.write = do, write  # type: ignore[method-assign]

    Verbs.do, Store.write = timed_do, timed_write  # type: ignore[method-assign]
    return end


@asynccontextmanager
async def no_room(*_: object) -> AsyncIterator[Untouchable]:
    yield Untouchable()


async def measured(seats: int, think_s: float, seconds: float) -> Row:
    watch, room_of = Watch(), seat.room_of
    model = Played(partial(replies, watch), think_s)
    seat.room_of = no_room  # type: ignore[assignment]
    end = timing(watch)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with a_run(Path(folder), model, Untouchable(), None, seats, seats) as desk:  # type: ignore[arg-type]
                run = Run(desk, After(desk.store, desk.repository, {}, (), desk.changed, desk.submitting))

                async def lag() -> None:
                    while True:
                        began = time.perf_counter()
                        await anyio.sleep(0.05)
                        watch.add("lag", time.perf_counter() - began - 0.05)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(run.go)
                    tasks.start_soon(lag)
                    await model.asked.until(lambda: model.sessions >= seats)
                    await anyio.sleep(5 * think_s)
                    watch.on, before = True, (time.process_time(), time.perf_counter())
                    await anyio.sleep(seconds)
                    watch.on, after = False, (time.process_time(), time.perf_counter())
                    await run.answer({"do": "stop", "now": True, "by": "benchmark"})
                    await anyio.sleep(3 * think_s)
                    tasks.cancel_scope.cancel()
    finally:
        end()
        seat.room_of = room_of
    took, peak = after[1] - before[1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    p95 = [watch.p95_ms(what) for what in ("claim", "append", "lag")]
    return Row(seats, round(watch.turns / took, 1), round((after[0] - before[0]) / took, 2), round(peak), *p95)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", nargs="*", type=int, default=[16, 64, 256, 1000])
    parser.add_argument("--think", type=float, default=2.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    given = parser.parse_args()
    if len(given.seats) == 1:  # one process for each row, so that memory is its own
        row = asdict(anyio.run(measured, given.seats[0], given.think, given.seconds))
        say(json.dumps(row) if given.json else "  ".join(f"{name} {value}" for name, value in row.items()))
        return 0
    if not given.json:
        say("  ".join(f"{name:>15}" for name in Row.__annotations__))
    for seats in given.seats:
        options = ["--seats", str(seats), "--think", str(given.think), "--seconds", str(given.seconds), "--json"]
        command = [sys.executable, "-m", "benchmarks.scale", *options]
        line = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True).stdout.splitlines()[
            -1
        ]
        say(line if given.json else "  ".join(f"{value!s:>15}" for value in json.loads(line).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
