"""`python -m benchmarks.judge --cases 1000`: how many cases a second a judge gets through, and what that costs itself.

The cases are trivial (a shell script compiles, a shell script is the product) and run in real bubblewrap rooms, two for
each case, so what is measured is the judge and its rooms. CPU is told apart: this process, and everything it started.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from sandbox.bubblewrap import BubblewrapEngine
from sandbox.room import Labels
from tests.verifiers.tiny import candidate, make_plan, make_project, make_root
from verifiers.cache import Memory, Verdicts
from verifiers.cases import expand
from verifiers.judge import RoomJudge
from verifiers.scorecard import Selection


@dataclass(frozen=True)
class Judged:
    """One judgement. CPU is milliseconds for each case."""

    what: str
    cases: int
    seconds: float
    cases_per_s: float
    own_cpu_ms: float
    rooms_cpu_ms: float
    peak_mib: int  # of this process, so far


async def measure(cases: int, cores: int) -> list[Judged]:
    """A judgement that runs every case, and one that finds whatever the judge keeps of the first."""
    with TemporaryDirectory(prefix="judge-benchmark-", dir="/var/tmp") as name:
        home = Path(name)
        await anyio.Path(home).chmod(0o755)  # every room's user walks here
        suites = make_project(home / "project", cases)
        every = tuple(replace(case, heldout=False) for case in expand("tiny", home / "project", {}, suites))
        plan = replace(make_plan(home / "project", make_root(home / "root"), suites, every), cores=cores)
        engine = BubblewrapEngine(home / "rooms")
        engine.check()
        memory = Memory(Verdicts(home / "verdicts"))
        judge, found = RoomJudge(engine, plan, Labels("benchmark", 1, "judge"), memory=memory), []
        for what in ("every case run", "judged again"):
            began, own, rooms = anyio.current_time(), _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
            card = await judge.judge(candidate(), Selection())
            seconds, ran = anyio.current_time() - began, len(every)
            if card.void or len(card.passed()) < ran:
                raise SystemExit(f"the judgement went wrong: {card.void or card.build.reason or card.counts()}")
            spent = [
                round((_cpu(who) - before) / ran * 1000, 2)
                for who, before in ((resource.RUSAGE_SELF, own), (resource.RUSAGE_CHILDREN, rooms))
            ]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            found.append(Judged(what, ran, round(seconds, 1), round(ran / seconds, 1), *spent, peak))
        await judge.close()
        return found


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="cases at a time")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = anyio.run(measure, given.cases, given.cores)
    head = f"{'':16}{'cases':>7}{'seconds':>9}{'cases/s':>9}{'own CPU':>10}{'rooms CPU':>11}{'peak':>9}"
    lines = [
        f"{one.what:16}{one.cases:>7}{one.seconds:>9}{one.cases_per_s:>9}{one.own_cpu_ms:>7} ms{one.rooms_cpu_ms:>8} ms"
        f"{one.peak_mib:>5} MiB"
        for one in found
    ]
    sys.stdout.write(json.dumps([asdict(one) for one in found]) if given.json else "\n".join([head, *lines]))
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
