"""`python -m benchmarks.rejudge REPOSITORY PROJECT`: judges every commit of a run's main again, from a clean checkout.

Knows nothing of the run but its repository: git lays each commit out in an empty folder, the judge draws new answers
with a secret of its own. A commit is red when it does not build, when it loses a shown case that an earlier commit
passed, or when a test of its own fails. Besides, every commit but the first must say whose it is: run, seat, session,
task and change as trailers. Exit code 1 when a commit is red or nobody's.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import git

from orchestrator.project.folder import overlaid
from orchestrator.project.furnishing import Layers, furnish, judging
from orchestrator.project.lock import check_lock, locked_cases, read_lock
from sandbox.engines import choose
from sandbox.keep import state_home
from verifiers.scorecard import Scorecard, Selection

TRAILERS = ("Run", "Seat", "Session", "Task", "Change")


@dataclass(frozen=True)
class Judged:
    """One commit. `wrong` is empty when it is green and says whose it is."""

    ordinal: int
    commit: str
    seat: str
    passed: dict[str, tuple[int, int]]  # by suite: passed and total
    wrong: tuple[str, ...]


def wrongs(card: Scorecard, best: frozenset[str], commit: git.Commit, first: bool) -> tuple[str, ...]:
    """What is wrong with a commit whose forerunners passed `best`."""
    if card.void or not card.build.ok:
        return (card.void or f"does not build: {card.build.reason}",)
    nobody = [] if first else [f"no trailer {name}" for name in TRAILERS if not commit.trailers_dict.get(name)]
    own = {id for id in card.verdicts if id.startswith("unit/")}
    return (*(f"loses {id}" for id in sorted((best | own) - card.passed())), *nobody)


async def rejudge(repository: Path, project_folder: Path, only: Sequence[int]) -> list[Judged]:
    """Every commit of main, oldest first; `only` picks ordinals (0 is the seed)."""
    home, lock = state_home(), read_lock(project_folder)
    found, best = [], frozenset[str]()
    with TemporaryDirectory(prefix="rejudge-") as scratch, overlaid(project_folder) as project:
        engine, cores = choose(None, home, judging=True), len(os.sched_getaffinity(0))
        furnished = await furnish(project, engine, home, say)
        check_lock(furnished, lock)
        cases, secret = locked_cases(furnished, lock), secrets.token_bytes(32)
        clone = git.Repo.clone_from(str(repository), f"{scratch}/clone.git", mirror=True)
        async with judging(engine, furnished, cases, home, secret=secret, cores=cores) as judge:
            commits = list(clone.iter_commits("main", reverse=True, first_parent=True))
            for ordinal, commit in enumerate(commits):
                if only and ordinal not in only:
                    continue
                checkout = await anyio.Path(scratch, f"{ordinal}").absolute()
                await checkout.mkdir()
                clone.git.execute(["git", f"--work-tree={checkout}", "checkout", "--force", commit.hexsha, "--", "."])
                card = await judge.judge(Layers((Path(checkout),)), Selection())
                wrong = wrongs(card, best, commit, ordinal == 0)
                best |= {id for id in card.passed() if not id.startswith("unit/")}
                seat = commit.trailers_dict.get("Seat", [""])[0]
                found.append(Judged(ordinal, commit.hexsha[:10], seat, card.counts(), wrong))
                say(line(found[-1]))
    return found


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def line(judged: Judged) -> str:
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in judged.passed.items())
    return f"{judged.ordinal:4}  {judged.commit}  {judged.seat:9} {suites}  {'; '.join(judged.wrong) or 'green'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repository", type=Path, help="the run's public.git, or any clone of it")
    parser.add_argument("project", type=Path, help="the project's folder, locked as the run found it")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="ordinals of commits; all without it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = anyio.run(rejudge, args.repository, args.project, args.only)
    red = [judged for judged in found if judged.wrong]
    table = "\n".join([*map(line, found), f"{len(found)} commits judged, {len(red)} red"])
    sys.stdout.write(json.dumps([asdict(judged) for judged in found], indent=2) if args.json else table)
    sys.stdout.write("\n")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
