"""`python -m benchmarks.kill_resume --runs 20 --seed 1`: a run killed at a random moment ends as an undisturbed one.

Each run of projects/hello with its scripted team is killed with SIGKILL at a moment drawn from the length of an
undisturbed run, every second one with its whole process tree, and resumed. Compared: main's tree and the outcome of
every case, held-out ones too. Besides, each change must have ended once, every commit on main must have its scorecard
and hold the ratchet, and no process, mount, room or container may be left. Exit code 1 on a difference.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.orchestrator.running import HELLO, Run, faults, yard

AGENTS = 3
LATEST = 0.95  # of an undisturbed run's length: a later kill would often come after the end


@dataclass(frozen=True)
class Trial:
    """One killed run. `wrong` is empty when it ended as the undisturbed one did."""

    number: int
    killed: str  # "process" or "tree"
    at_s: float
    doing: str  # the newest event of the journal when it was killed
    resumed_s: float  # until the run answered again
    whole_s: float
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    seconds: float
    tree: str
    outcomes: dict[str, str]


def undisturbed(project: Path, team: Path, agents: int, sandbox: str | None) -> Reference:
    with yard(sandbox) as place:
        began = time.monotonic()
        run = place.create(project, agents, models={"": f"scripted:{team}"}, budget=50_000_000)
        served = time.monotonic()
        run.serve()
        run.finish()
        seconds = time.monotonic() - served
        if wrong := [*faults(run), *place.leftovers()]:
            raise SystemExit(f"the undisturbed run is wrong ({time.monotonic() - began:.0f} s): {wrong}")
        return Reference(seconds, run.tree, run.judged())


def killed(
    number: int,
    after_s: float,
    tree: bool,
    wanted: Reference,
    project: Path,
    team: Path,
    agents: int,
    sandbox: str | None,
) -> Trial | None:
    """One trial; None when the run was quicker than the moment of its death."""
    with yard(sandbox) as place:
        run = place.create(project, agents, models={"": f"scripted:{team}"}, budget=50_000_000)
        run.serve()
        began = time.monotonic()
        time.sleep(after_s)
        doing = newest(run)
        if run.pid is None or doing == "run-ended":
            return None
        run.kill(tree=tree)
        stopped = time.monotonic()
        run.resume()
        resumed = time.monotonic() - stopped
        run.wait()
        whole = time.monotonic() - began
        wrong = [*differences(run, wanted), *faults(run), *place.leftovers()]
        return Trial(number, "tree" if tree else "process", after_s, doing, resumed, whole, tuple(wrong))


def newest(run: Run) -> str:
    rows = run.rows("SELECT kind, seat FROM journal ORDER BY seq DESC LIMIT 1")
    return " ".join(filter(None, rows[0])) if rows else "before the first event"


def differences(run: Run, wanted: Reference) -> Iterator[str]:
    if run.state != "ended":
        yield f"the run is {run.state}"
    if run.tree != wanted.tree:
        yield f"main's tree is {run.tree}, not {wanted.tree}"
    outcomes = run.judged()
    for case in sorted(outcomes.keys() | wanted.outcomes.keys()):
        now, then = outcomes.get(case), wanted.outcomes.get(case)
        if now != then:
            yield f"{case}: {now}, not {then}"


def compare(
    runs: int,
    seed: int,
    project: Path = HELLO,
    team: Path = HELLO / "team.toml",
    agents: int = AGENTS,
    sandbox: str | None = None,
    tell: Callable[[Trial], None] = lambda _: None,
) -> tuple[Reference, list[Trial]]:
    luck = random.Random(seed)
    wanted = undisturbed(project, team, agents, sandbox)
    trials = []
    for number in range(1, runs + 1):
        trial = None
        while trial is None:
            after = luck.uniform(0, LATEST * wanted.seconds)
            trial = killed(number, after, number % 2 == 0, wanted, project, team, agents, sandbox)
        trials.append(trial)
        tell(trial)
    return wanted, trials


def line(trial: Trial) -> str:
    verdict = "same" if not trial.wrong else "; ".join(trial.wrong)
    times = f"{trial.at_s:6.1f} s {trial.resumed_s:8.1f} s {trial.whole_s:6.1f} s"
    return f"{trial.number:3}  {trial.killed:<8} {times}  {trial.doing:<28} {verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_resume", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sandbox", choices=("docker", "bubblewrap"), help="default: what `start` would take")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    def tell(trial: Trial) -> None:
        if not given.json:
            sys.stdout.write(line(trial) + "\n")
            sys.stdout.flush()

    tell_head = "     killed    after    resumed  whole  while                        main and scorecard\n"
    if not given.json:
        sys.stdout.write(tell_head)
    wanted, trials = compare(given.runs, given.seed, sandbox=given.sandbox, tell=tell)
    differing = sum(bool(trial.wrong) for trial in trials)
    if given.json:
        result = {"undisturbed": asdict(wanted), "trials": [asdict(one) for one in trials], "differing": differing}
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write(
            f"{len(trials) - differing} of {len(trials)} ended as the undisturbed run did: tree {wanted.tree[:12]}, "
            f"{len(wanted.outcomes)} cases, {wanted.seconds:.0f} s\n"
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
