"""`python -m benchmarks.integration --real`: sixteen scripted seats, real git, rooms and suite, beside a simulation.

The project is one of parts: each task makes one, each part has its case, and a case takes a tenth of a second. Of the
changes, as in `integration.World`: 15 % break another case, 15 % conflict with a neighbour's, 3 % break a case together
with a neighbour's; one case fails by chance. A seat thinks by sleeping. A bounced change comes back whole.

After so many minutes the run is stopped. The simulation is told what it measured of seats and suites alone: how long
work, repair, the fast tier and a whole suite took. It foretells how many changes have landed by then.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Final

import trio
from trio.testing import MockClock

from benchmarks.integration import repeatable, simulated
from benchmarks.integration_world import MINUTE, World
from tests.orchestrator.running import Run, faults, shell, small_project, toml, yard

AGENTS, TASKS, CORES = 16, 110, 2
RUN_S: Final = 360.0  # too short for all tasks
START: Final = 0.1  # of a whole suite's time, before its first case
AGAIN: Final = 1 + START + World.rerun * CORES * (1 - START)  # suites in a judgement, with the few cases it repeats
THINK_S, FIX_S, SPREAD = 40.0, 13.0, 0.6
LONGEST_S: Final = 100.0  # a command in front may take two minutes
HAS: Final = """#!/bin/sh
read -r kind name <"$CASE"
sleep 0.1
case $kind in
flaky) read -r word </proc/sys/kernel/random/uuid; case $word in 0[0-7]*) echo "ERROR bad luck"; exit 1 ;; esac ;;
pair) set -- "$ARTIFACTS/parts/$name"-*; [ $# -lt 2 ] || { echo "ERROR two of $name"; exit 1; } ;;
*) read -r text <"$ARTIFACTS/parts/$name" && [ "$text" = "$name" ] || { echo "ERROR no $name part"; exit 1; } ;;
esac
"""


@dataclass(frozen=True)
class Work:
    """One task: what it plants."""

    part: str
    seconds: float
    breaks: str = ""  # a part of the seed
    conflicts: str = ""  # a file of which others write the same line
    together: str = ""  # a name that only one may take


def planted(dice: random.Random) -> Iterator[Work]:
    syllables = ["".join(pair) for pair in product("bdfgklmnprst", "aeiou")]
    names = [f"{one}{other}x" for one, other in zip(syllables, syllables[7:] + syllables[:7], strict=True)]
    names += [f"{one}{other}v" for one, other in zip(syllables, syllables[11:] + syllables[:11], strict=True)]
    for number, name in enumerate(names[:TASKS]):
        seconds = min(dice.lognormvariate(0, SPREAD) * THINK_S / 1.2, LONGEST_S)
        broken = f"{name[:-1]}m" if dice.random() < World.broken else ""  # each breaks another
        # Neighbours in the plan are in flight together; the second of a pair is the one that conflicts.
        pair, kind = number // 2, random.Random(number // 2).random()
        conflicts = f"shared/s{pair}" if kind < 2 * World.conflicts else ""
        together = f"pair{pair}" if kind > 1 - 2 * World.clashes else ""
        yield Work(name, seconds, broken, conflicts, together)


def project_of(folder: Path, works: list[Work]) -> Path:
    small_project(folder, [work.part for work in works])
    (folder / "suites/has.sh").write_text(HAS)
    for file in (folder / "suites/parts").iterdir():
        file.write_text(f"part {file.stem.removeprefix('a-')}\n")
    for base in filter(None, (work.breaks for work in works)):
        (folder / f"seed/parts/{base}").write_text(f"{base}\n")
        (folder / f"suites/parts/a-{base}.txt").write_text(f"part {base}\n")
    (folder / "suites/parts/a-flaky.txt").write_text("flaky\n")
    for work in works:
        if work.conflicts:
            (folder / "seed/shared").mkdir(exist_ok=True)
            (folder / "seed" / work.conflicts).write_text("nobody\n")
        if work.together:
            (folder / f"suites/parts/a-{work.together}.txt").write_text(f"pair {work.together}\n")
    return folder


def team_of(file: Path, works: list[Work]) -> Path:
    text = []
    for work in works:
        make = [f"sleep {work.seconds:.1f}", f"echo {work.part} >parts/{work.part}"]
        make += [f"echo broken >parts/{work.breaks}"] if work.breaks else []
        make += [f"echo {work.part} >{work.conflicts}"] if work.conflicts else []
        make += [f"echo {work.part} >parts/{work.together}-{work.part}"] if work.together else []
        mend = [f"sleep {FIX_S}", f"echo {work.breaks} >parts/{work.breaks}" if work.breaks else "true"]
        mend += [f"rm -f parts/{work.together}-{work.part}"] if work.together else []
        commit, pull = "git add -A && git commit -qm Part", "git pull -q --rebase -X theirs"
        submit = {"tool": "submit", "summary": f"Part {work.part}", "fixes": ["{case}"]}
        calls = [shell(" && ".join([*make, commit])), submit]
        repair = [shell("; ".join([*mend, commit, pull])), submit]
        text += ["[[session]]", f'match = "*no {work.part} part*"']
        text += [f"calls = {toml(calls)}", f"on_bounce = {toml(repair)}"]
    file.write_text("\n".join([*text, ""]))
    return file


@dataclass(frozen=True)
class Measured:
    """Of the real run, mean seconds: a task's and a repair's work, the fast tier with the merge before it, a whole
    suite; and what became of the changes."""

    work_s: float
    repair_s: float
    fast_s: float
    suite_s: float
    run_s: float  # from the first session to the stop
    landed: int
    bounced: int
    wrong: tuple[str, ...]


def measure(run: Run) -> Measured:
    def when(row: object) -> float:
        return datetime.fromisoformat(row["at"]).timestamp()  # type: ignore[index]

    journal = [(when(row), row["kind"], json.loads(row["data"])) for row in run.rows("SELECT * FROM journal")]
    began = {data["session"]: at for at, kind, data in journal if kind == "session-started"}
    handed, shells = dict[str, float](), dict[str, int]()
    work, repair, fast = list[float](), list[float](), list[float]()
    for at, kind, data in journal:
        if kind == "call" and data["name"] == "shell":  # not what follows: a submission may wait for an earlier verdict
            before = shells[data["session"]] = shells.get(data["session"], 0) + 1
            (work if before == 1 else repair).append(at - began[data["session"]] if before == 1 else data["seconds"])
        elif kind == "submitted":
            handed[data["change"]] = at
        elif kind in ("staged", "parked", "bounced") and (came := handed.pop(data["change"], None)):
            fast.append(at - came)
    kinds = [kind for _, kind, _ in journal]
    judged = [data["seconds"] for _, kind, data in journal if kind == "judged"]
    return Measured(
        statistics.mean(work),
        statistics.mean(repair or [FIX_S]),
        statistics.mean(fast),
        statistics.mean(judged) / AGAIN,
        RUN_S,
        kinds.count("landed"),
        kinds.count("bounced"),
        tuple(fault for fault in faults(run) if " lost " in fault or "scorecard" in fault),
    )


def foretold(real: Measured, seeds: int = 20) -> list[int]:
    """How many have landed by then, by the simulation."""
    suite, start = real.suite_s * CORES / MINUTE, real.suite_s * START / MINUTE
    world = World(
        AGENTS,
        CORES,
        suite=suite - start * CORES,
        hours=real.run_s / 3600,
        warm_up=0,
        task=real.work_s / MINUTE,
        fix=real.repair_s / MINUTE,
        relapse=0.0,
        start=start,
        fast=(real.fast_s / MINUTE - start) / (suite - start * CORES),
        caught=0.2,
    )
    found = []
    for seed in range(seeds):
        repeatable(seed)
        sim = trio.run(simulated, "ours", world, seed, clock=MockClock(autojump_threshold=0))
        found.append(len(sim.landed_when))
    return found


def main(*, as_json: bool) -> int:
    works = list(planted(random.Random(1)))
    with yard("bubblewrap") as place:
        project, team = project_of(place.folder / "parts", works), team_of(place.folder / "team.toml", works)
        run = place.create(project, AGENTS, models={"": f"scripted:{team}"}, judge_cores=CORES, verify_cores=AGENTS)
        run.serve()
        run.until("SELECT 1 FROM journal WHERE kind = 'session-started'")
        time.sleep(RUN_S)
        run.kill(tree=True)
        real = measure(run)
    counts = foretold(real)
    mean, spread = statistics.mean(counts), statistics.stdev(counts)
    off = real.landed / mean - 1
    if as_json:
        told = {"real": asdict(real), "foretold": round(mean, 1), "foretold_sd": round(spread, 1), "off": round(off, 3)}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(
            f"{AGENTS} seats, {RUN_S:.0f} s: {real.landed} landed, {real.bounced} bounced, {len(real.wrong)} faults\n"
            f"measured: work {real.work_s:.1f} s, repair {real.repair_s:.1f} s, fast tier {real.fast_s:.1f} s, "
            f"whole suite {real.suite_s:.1f} s\n"
            f"foretold: {mean:.1f} ± {spread:.1f} landed; the run is {off:+.1%} off\n"
        )
    return 1 if real.wrong or abs(off) > 0.15 else 0
