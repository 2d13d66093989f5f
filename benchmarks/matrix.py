"""`python -m benchmarks.matrix`: a generated history of main, stored landing by landing, and the questions asked of it.

Main begins with 70 % of its cases passing. Each commit changes 1 % of them, drawn anew: one that passes fails, one that
fails passes or fails for another reason. Each failure has a reason of its own (`run: exit 134, expected 0 at
src/lower.rs:2210`) and its own seconds. A landing is written as the gate writes it: scorecard
and intent in one durable transaction, then the landing and the matrix in another. Every fiftieth commit lands without
a judgement of its own, as inside a batch, and is judged 25 commits later. Written and asked with the real code.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from orchestrator.records import Change, ChangeState, Session, SessionState
from orchestrator.store import Store, Tx, changes, matrix, reading, rows
from orchestrator.watch import cases
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

NOW = datetime(2026, 3, 14, tzinfo=UTC)
PASSING, TURNED = 0.7, 0.01
LATE = 50  # one commit of so many
ASKED = 100  # questions of a kind


Took = tuple[float, float]  # milliseconds by the clock, and of CPU


@dataclass(frozen=True)
class Measured:
    """What one history costs. Milliseconds are wall time, `_p95` of all and else their median."""

    cases: int
    commits: int
    turned: int  # cells of the matrix: changes of outcome
    state_mb: float
    matrix_mb: float
    scorecards_mb: float
    landing_ms: float
    landing_p95: float
    landing_cpu_ms: float
    late_ms: float
    blame_ms: float
    blame_p95: float
    scorecard_ms: float  # reading one whole card
    cases_ms: float
    regressions_ms: float


class History:
    """Main's scorecards, one after another."""

    def __init__(self, count: int, draw: random.Random) -> None:
        self.draw, self.names = draw, [f"torture/{n:08d}-1@x86_64" for n in range(count)]
        self.verdicts = {name: Verdict(name, Outcome.PASS) for name in self.names}
        self.verdicts |= {name: self.failing(name) for name in self.names if draw.random() > PASSING}

    def failing(self, name: str) -> Verdict:
        code, line = self.draw.choice((1, 2, 101, 134, 139)), self.draw.randrange(4000)
        file = self.draw.choice(("lexer", "parser", "types", "lower", "alloc", "emit"))
        reason = f"run: exit {code}, expected 0 at src/{file}.rs:{line}"
        return Verdict(name, Outcome.FAIL, self.draw.lognormvariate(-2, 0.5), reason)

    def turn(self) -> None:
        for name in self.draw.sample(self.names, int(len(self.names) * TURNED)):
            mends = self.verdicts[name].outcome is Outcome.FAIL and self.draw.random() < PASSING
            self.verdicts[name] = Verdict(name, Outcome.PASS) if mends else self.failing(name)

    def card(self, tree: str) -> Scorecard:
        return Scorecard(tree, "full", Build(True, 3.0), dict(self.verdicts))


async def generate(path: Path, count: int, commits: int, seed: int) -> tuple[list[Took], list[Took]]:
    """Writes the history; returns how long each landing and each late card took to be written."""
    store, history = Store(path, lambda: NOW), History(count, random.Random(seed))
    await store.create("matrix", "{}")
    seat = Session("agent-01/1", "agent-01", 1, "builder", "open", SessionState.ACTIVE, NOW, "seed")
    await store.write(lambda tx: rows.insert(tx, seat))
    await store.write(lambda tx: changes.add_scorecard(tx, history.card("seed"), commit="seed"))
    landed, late, waiting = [], [], dict[int, tuple[Scorecard, str]]()
    for number in range(1, commits + 1):
        history.turn()
        card, old, new, id = history.card(f"tree{number}"), commit_of(number - 1), commit_of(number), f"C{number}"
        whose = (id, seat.id, seat.seat, "T1", ChangeState.JUDGING, NOW, old, new, card.tree, f"call{number}")
        change = Change(*whose, summary=f"Lower kind {number}")
        if number % LATE == 0:
            waiting[number + LATE // 2] = card, new

        def intend(tx: Tx, change: Change = change, card: Scorecard = card, own: bool = number % LATE > 0) -> None:
            rows.insert(tx, change, number=int(change.id[1:]))
            scorecard = changes.add_scorecard(tx, card, commit=change.commit) if own else 1
            changes.intend(tx, change.id, change.base, change.commit, scorecard)

        def mark(tx: Tx, change: Change = change) -> None:
            tx.run("UPDATE landing SET done = 1 WHERE change = ?", change.id)
            changes.finish(tx, change, ChangeState.LANDED, landed_as=change.commit)
            matrix.record(tx)

        wall, cpu = zip(await took(store, intend), await took(store, mark), strict=True)
        landed += [(sum(wall), sum(cpu))][: number % LATE]
        if number in waiting:
            then, commit = waiting.pop(number)
            late.append(await took(store, lambda tx, c=then, at=commit: changes.add_scorecard(tx, c, commit=at)))
        if number % 200 == 0:
            sys.stderr.write(f"{number} commits\n")
    await store.close()
    return landed, late


def commit_of(number: int) -> str:
    return f"{number:040x}" if number else "seed"


async def took(store: Store, work: Callable[..., object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    await store.write(work)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def milliseconds(asked: list[Callable[[], object]]) -> list[float]:
    took = []
    for ask in asked:
        began = time.perf_counter()
        ask()
        took.append(1e3 * (time.perf_counter() - began))
    return took


def size_mb(path: Path, where: str) -> float:
    with reading(path) as db:
        (size,) = db.execute(f"SELECT sum(pgsize) FROM dbstat WHERE {where}").fetchone()
    return round(size / 1e6, 1)


def measure(path: Path, count: int, commits: int, seed: int) -> Measured:
    landed, late = anyio.run(generate, path, count, commits, seed)
    draw, names = random.Random(seed), History(count, random.Random(seed)).names

    def blame() -> object:
        with reading(path) as db:
            return cases.blame(db, draw.choice(names))

    def read() -> object:
        with reading(path) as db:
            return changes.scorecard_of(db, commit_of(draw.randrange(commits)))

    def listed(query: Callable[..., object], *values: object) -> Callable[[], object]:
        def ask() -> object:
            with reading(path) as db:
                return query(db, *values)

        return ask

    wall, cpu = zip(*landed, strict=True)
    blamed = milliseconds([blame] * ASKED)
    with reading(path) as db:
        (turned,) = db.execute("SELECT count(*) FROM cell").fetchone()
    return Measured(
        cases=count,
        commits=commits,
        turned=turned,
        state_mb=round(path.stat().st_size / 1e6, 1),
        matrix_mb=size_mb(path, "name LIKE '%shown_case%' OR name IN ('cell', 'judged')"),
        scorecards_mb=size_mb(path, "name LIKE '%scorecard%' OR name = 'payload'"),
        landing_ms=round(statistics.median(wall), 1),
        landing_p95=round(statistics.quantiles(wall, n=20)[-1], 1),
        landing_cpu_ms=round(statistics.median(cpu), 1),
        late_ms=round(statistics.median(ms for ms, _ in late), 1),
        blame_ms=round(statistics.median(blamed), 1),
        blame_p95=round(statistics.quantiles(blamed, n=20)[-1], 1),
        scorecard_ms=round(statistics.median(milliseconds([read] * ASKED)), 1),
        cases_ms=round(statistics.median(milliseconds([listed(cases.cases, "")] * 3)), 1),
        regressions_ms=round(statistics.median(milliseconds([listed(cases.regressions)] * 3)), 1),
    )


LIMITS = {"state_mb": 300, "landing_ms": 100, "blame_ms": 50}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=30_000)
    parser.add_argument("--commits", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="matrix-") as scratch:
        found = asdict(measure(Path(scratch) / "state.db", args.cases, args.commits, args.seed))
    limits = {name: f"   limit {limit}" for name, limit in LIMITS.items()}
    table = "\n".join(f"{name:<15} {value:>12,}{limits.get(name, '')}" for name, value in found.items())
    sys.stdout.write((json.dumps(found, indent=2) if args.json else table) + "\n")
    return int(any(found[name] >= limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
