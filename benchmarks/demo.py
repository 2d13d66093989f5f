"""`python -m benchmarks.demo`: the shipped recording of projects/c-compiler, replayed and compared with it.

Compared: main's commit ids, one by one; divergences; and, of a replay that went to its end, whether recording it gives
the shipped file again. `--until 8` stops after the eighth
landing; `--kills 5` kills the process at random moments before (every second time its whole tree) and resumes it;
`--serial` has the gate judge one change at a time, as a gate without batches would. Of the gate's time the table says
what it was: building, running cases with their rooms, waiting for changes. Exit code 1 on a difference.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from unittest.mock import patch

from orchestrator.cli.process import serve
from orchestrator.recording import FILE, Recording
from orchestrator.replay import Replay
from tests.orchestrator.running import ROOT, Run, Yard, faults, yard

PROJECT: Final = ROOT / "projects/c-compiler"
LOOK_S: Final = 1.0
LONGEST_S: Final = 4 * 3600.0
TREE_EVERY: Final = 2  # kills of which one ends the whole tree of processes
LANDED: Final = "SELECT count(*) FROM landing WHERE done"


@dataclass
class Replayed:
    """One replay. Seconds from the start of the run's process; `gate` is what it did with them."""

    gate: str
    sandbox: str
    agents: int
    landed: int = 0
    bounced: int = 0
    divergences: int = 0
    first_landing_s: float = 0.0
    seconds: float = 0.0
    judgements: int = 0
    gate_s: dict[str, float] = field(default_factory=dict)
    kills: int = 0
    main: str = ""
    wrong: list[str] = field(default_factory=list)


def replayed(place: Yard, recording: Recording, given: argparse.Namespace, *, serial: bool) -> Replayed:
    project = place.folder / PROJECT.name
    if not project.exists():
        shutil.copytree(PROJECT, project, symlinks=True)
    name = "serial" if serial else "staged"
    replay = "full" if given.full else "short"
    run = place.create(project, given.agents, name=name, models={"": "recorded"}, replay=replay, unlocked=False)
    result = Replayed(name, place.sandbox or "the default", given.agents)
    luck, wanted = random.Random(given.seed), given.until or len(recording.head.main) - 1
    began, last = time.monotonic(), -1
    moments = sorted(luck.uniform(0, wanted) for _ in range(given.kills))  # in landings, whose pace nobody knows
    by = ("benchmarks.demo", "--serve") if serial else ("orchestrator", "_serve", "--json")
    run.serve(by=by)
    while run.pid is not None and time.monotonic() - began < LONGEST_S:
        time.sleep(LOOK_S)
        landed = run.one(LANDED)
        if landed != last:
            sys.stderr.write(f"{name} {time.monotonic() - began:7.0f} s  {landed} of {wanted} landed\n")
            result.first_landing_s = result.first_landing_s or (landed > 0) * (time.monotonic() - began)
            last, since, wait = landed, time.monotonic(), luck.uniform(0, 30)
        if landed >= wanted < len(recording.head.main) - 1:
            run.kill(tree=True)
        elif moments and landed >= int(moments[0]) and time.monotonic() - since >= wait:
            del moments[0]
            result.kills += 1
            run.kill(tree=result.kills % TREE_EVERY == 0)
            run.serve(by=by)
            since, wait = time.monotonic(), luck.uniform(0, 30)
    result.seconds = time.monotonic() - began
    result.wrong += differences(run, recording, wanted)
    look(run, result)
    if wanted == len(recording.head.main) - 1 and not result.wrong:
        again = place.say("record", name, str(place.folder / f"{name}-again"))
        same = again.returncode == 0 and (place.folder / f"{name}-again" / Path(FILE).name).read_bytes() == packed()
        result.wrong += [] if same else [f"recorded again it is another recording: {again.stderr[-200:]}"]
    return result


def packed() -> bytes:
    return (PROJECT / FILE).read_bytes()


def differences(run: Run, recording: Recording, wanted: int) -> list[str]:
    found = [] if run.one(LANDED) >= wanted else [f"{run.one(LANDED)} landed, not {wanted}"]
    pairs = zip(run.commits()[: wanted + 1], recording.head.main, strict=False)
    found += [f"commit {place} is {now}, not {then}" for place, (now, then) in enumerate(pairs) if now != then]
    found += [f"diverged: {row['data']}" for row in run.rows("SELECT data FROM journal WHERE kind = 'diverged'")]
    return found + (faults(run) if run.state == "ended" else [])


def look(run: Run, result: Replayed) -> None:
    """What the run did, as its journal has it."""
    journal = [(row["at"], row["kind"], json.loads(row["data"])) for row in run.rows("SELECT * FROM journal")]
    kinds = [kind for _, kind, _ in journal]
    result.landed, result.bounced, result.divergences = map(kinds.count, ("landed", "bounced", "diverged"))
    judged = [data for _, kind, data in journal if kind == "judged"]
    result.judgements, result.main = len(judged), run.commits()[-1]
    busy = sum(data["seconds"] for data in judged)
    built = sum(data["build_s"] for data in judged)
    first, last = (datetime.fromisoformat(journal[place][0]) for place in (0, -1))
    result.gate_s = {
        "build": round(built),
        "cases": round(busy - built),
        "waiting": round((last - first).total_seconds() - busy),
    }


def table(rows: Sequence[Replayed]) -> str:
    head = (
        "gate     sandbox     agents  landed  bounced  judgements  first landing  whole  build  cases  waiting  kills\n"
    )
    lines = [
        f"{row.gate:<8} {row.sandbox:<11} {row.agents:>6} {row.landed:>7} {row.bounced:>8} {row.judgements:>11} "
        f"{row.first_landing_s:>12.0f} s {row.seconds:>4.0f} s {row.gate_s['build']:>4} s {row.gate_s['cases']:>4} s "
        f"{row.gate_s['waiting']:>6} s {row.kills:>6}\n" + "".join(f"  DIFFERS: {one}\n" for one in row.wrong)
        for row in rows
    ]
    return head + "".join(lines)


async def one_by_one(replay: Replay) -> Sequence[str]:
    """`Replay.batch` of a gate without batches."""
    return (await BATCH(replay))[:1]


BATCH: Final = Replay.batch


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m benchmarks.demo --until 8 --kills 5 --seed 1",
    )
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--until", type=int, default=0, metavar="N", help="stop after so many landings; 0: to the end")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="leave no recorded call out")
    parser.add_argument("--serial", action="store_true", help="a second replay, through a gate without batches")
    parser.add_argument("--sandbox", choices=("docker", "bubblewrap"), default="bubblewrap")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # the serial replay's own process
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    if given.serve:
        with patch.object(Replay, "batch", one_by_one):
            serve(given.serve)
            return 0
    recording, rows = Recording.read(PROJECT / FILE), []
    for serial in (False, True)[: 1 + given.serial]:
        with yard(given.sandbox) as place:
            rows.append(replayed(place, recording, given, serial=serial))
    sys.stdout.write(json.dumps([asdict(row) for row in rows]) + "\n" if given.json else table(rows))
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
