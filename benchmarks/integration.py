"""`python -m benchmarks.integration`: how many changes an hour each scheme of integration lands, on a simulated clock.

Ours is the real code of orchestrator/queue.py over simulated trees, judges and agents; the others stand in
integration_schemes.py, each as its authors describe it. An agent works, submits, and goes on with its next task while
that change is judged; it has one unmerged change at most. A bounced change comes back repaired, unless it is broken
again.

Rows: landed changes an hour; eta, their share of what agents or cores could do at best, with its spread over the seeds;
red, the share of time in which main was broken in truth, whatever the scheme believes; minutes from done to landed,
median and 95th percentile; full suites run for each landed change. What is in the model: `integration_world.World`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
import trio
from trio._core import _run as scheduling
from trio.testing import MockClock

from benchmarks.integration_ours import Ours, OursOneBit, OursOneByOne
from benchmarks.integration_schemes import Batch5, Bors, Integration, Optimistic, Scheme, Serial, Ungated, Zuul
from benchmarks.integration_world import MINUTE, Simulation, Work, World

SCHEMES: Final[dict[str, Scheme]] = {
    "ours": Ours,
    "ungated": Ungated,
    "serial": Serial,
    "bors": Bors,
    "batch of 5": Batch5,
    "zuul": Zuul,
    "optimistic": Optimistic,
    "ours, one bit": OursOneBit,
    "ours, one by one": OursOneByOne,
}


async def agent(sim: Simulation, scheme: Integration, seat: str, tasks: anyio.abc.TaskGroup) -> None:
    """Task after task. A bounce is repaired at once, and a change that has not landed yet holds back the next one."""
    world, pending = sim.world, list[Work]()
    mu = math.log(world.task) - world.spread**2 / 2

    async def hand_in(work: Work) -> None:
        sim.works[work.change.id], sim.flight[work.change.id] = work, None
        sim.answers[work.change.id] = anyio.Event()
        pending.append(work)
        if scheme.inline:
            await scheme.submit(work)
        else:
            tasks.start_soon(scheme.submit, work)

    async def answered() -> None:
        """Waits for the verdict on the pending change; repairs and submits it again where it bounced."""
        await sim.answers[pending[0].change.id].wait()
        work = pending.pop()
        if work.change.id in sim.bounced:
            sim.bounced.discard(work.change.id)
            await anyio.sleep(world.fix * MINUTE)
            await hand_in(sim.repaired(work))

    while True:
        base, left = len(sim.main), sim.dice.lognormvariate(mu, world.spread) * MINUTE
        while left > 0 and pending:
            began = anyio.current_time()
            with anyio.move_on_after(left):
                await sim.answers[pending[0].change.id].wait()
            left -= anyio.current_time() - began
            if left > 0:
                await answered()
        await anyio.sleep(max(left, 0))
        work = sim.finished(seat, base)
        while pending:
            await answered()
        for reverted in sim.redo.pop(seat, []):
            await anyio.sleep(world.fix * MINUTE)
            await hand_in(sim.repaired(reverted))
            while pending:
                await answered()
        await hand_in(work)


async def simulated(name: str, world: World, seed: int) -> Simulation:
    sim = Simulation(world, seed)
    scheme = SCHEMES[name](sim)
    with anyio.move_on_after(world.hours * 60 * MINUTE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheme.keep)
            for number in range(world.agents):
                tasks.start_soon(agent, sim, scheme, f"agent-{number:02d}", tasks)
    sim.broken.clear()
    sim._tell()
    return sim


@dataclass(frozen=True)
class Row:
    scheme: str
    agents: int
    cores: int
    suite_cpu_min: float
    landed_per_h: float
    eta: float
    eta_sd: float  # over the seeds; 0 for one
    red: float
    p50_min: float
    p95_min: float
    full_suites_per_landed: float


def repeatable(seed: int) -> None:
    """trio shuffles tasks on purpose: from here on, the same way each time."""
    scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduling._r.seed(seed)


def measured(name: str, world: World, seeds: int) -> Row:
    landed, red, suites, latencies = list[int](), 0.0, 0.0, list[float]()
    hours = world.hours - world.warm_up
    for seed in range(seeds):
        repeatable(seed)
        sim = trio.run(simulated, name, world, seed, clock=MockClock(autojump_threshold=0))
        late = [(when - sim.done[id]) / MINUTE for id, when in sim.landed_when.items() if when > sim.warm]
        landed.append(len(late))
        latencies += late
        red += sim.red / 3600
        suites += sim.suites
    best = min(world.agent_bound(), world.gate_bound())
    etas = [count / hours / best for count in landed]
    cuts = statistics.quantiles(latencies, n=20) if len(latencies) > 1 else [math.nan] * 19
    return Row(
        name,
        world.agents,
        world.cores,
        world.suite,
        round(sum(landed) / hours / seeds, 1),
        round(statistics.mean(etas), 3),
        round(statistics.stdev(etas) if seeds > 1 else 0.0, 3),
        round(red / hours / seeds, 4),
        round(cuts[9], 1),
        round(cuts[18], 1),
        round(suites / max(sum(landed), 1), 3),
    )


def line(row: Row) -> str:
    return "  ".join(f"{value:>{width}}" for value, width in zip(asdict(row).values(), WIDTHS, strict=True))


CELLS: Final = ((2, 10.0, 16), (16, 10.0, 16), (16, 10.0, 64), (16, 10.0, 256))
WIDTHS: Final = [max(len(name), 16 if name == "scheme" else 7) for name in Row.__annotations__]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m benchmarks.integration --schemes ours serial --cell 16 10 64 --seeds 1",
    )
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--cell", nargs=3, action="append", metavar=("CORES", "SUITE_MIN", "AGENTS"))
    parser.add_argument("--hours", type=float, default=World.hours)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="ours alone, one seed of 18 hours")
    parser.add_argument("--real", action="store_true", help="instead: a small real run beside its own simulation")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    given = parser.parse_args()
    if given.real:
        from benchmarks.integration_real import main as real  # which has this module's simulation

        return real(as_json=given.json)
    if given.quick:
        given.schemes, given.hours, given.seeds = ["ours"], 18.0, 1
    cells = [(int(k), float(c), int(n)) for k, c, n in given.cell] if given.cell else CELLS
    if not given.json:
        say("  ".join(f"{name:>{width}}" for name, width in zip(Row.__annotations__, WIDTHS, strict=True)))
    for cores, suite, agents in cells:
        for name in given.schemes:
            hours = given.hours * max(1, 64 // agents)  # few agents land little: longer, for as small a spread
            row = measured(name, World(agents, cores, suite, hours=hours), given.seeds)
            say(json.dumps(asdict(row)) if given.json else line(row))
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
