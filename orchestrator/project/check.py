"""`project check`: the proof that a project's judge judges. A good solution passes, nothing passes for nothing, cheats
are caught by what was meant to catch them, and asking three times gives one answer."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.project.freezing import overlaid, text_digest
from orchestrator.project.furnishing import Furnished, Progress, furnish, furnish_reference, judge_plan, scratch_place
from orchestrator.project.layers import Layers
from orchestrator.project.lock import check_lock, locked_cases, read_lock
from orchestrator.project.project import Cheat, Project
from sandbox.room import Engine, Labels
from verifiers.judge import RoomJudge
from verifiers.judging import Selection
from verifiers.scorecard import Outcome, Scorecard, Verdict
from verifiers.suites import LockedCase

QUICK_CASES: Final = 40
ROUNDS: Final = 3


@dataclass(frozen=True)
class Reference:
    """Passed and total by suite, and what is below its expectation."""

    suites: Mapping[str, tuple[int, int]]
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Empty:
    """The seed: `builds` must be true and `passed`, of `total` cases, empty."""

    builds: bool
    passed: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class Cheats:
    caught: int
    total: int
    missed: tuple[str, ...]  # a line for each that got through, or was stopped by something else


@dataclass(frozen=True)
class Agree:
    """Cases whose outcome on the reference was the same in all rounds, and those whose was not."""

    agreed: int
    total: int
    unsteady: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    reference: Reference
    empty: Empty
    cheats: Cheats
    agree: Agree
    drift: tuple[str, ...]  # packages that moved since the lock

    @property
    def ok(self) -> bool:
        proved = not self.reference.missed and self.empty.builds and not self.empty.passed
        return proved and not self.cheats.missed and not self.agree.unsteady


class CheckFailed(Exception):
    """The machine or the judge failed, so that nothing is proved either way."""


async def check(folder: Path, engine: Engine, home: Path, *, cores: int, quick: bool, progress: Progress) -> Report:
    """Proves the locked project in `folder`. `quick` takes a sample of the cases and one round.

    Raises `ProjectError`, `LockDiffers` when the folder is not what was locked, `CheckFailed`, `RoomError`.
    """
    with overlaid(folder) as project, tempfile.TemporaryDirectory(prefix="check-", dir=scratch_place(home)) as scratch:
        furnished = await furnish(project, home, local=engine.name == "local", progress=progress)
        lock = read_lock(folder)
        drift = check_lock(project, lock, furnished)
        cases = await locked_cases(project, lock, furnished)
        if quick:
            cases = tuple(sorted(cases, key=lambda case: text_digest(case.id))[:QUICK_CASES])
        proof = _Proof(project, engine, cases, Path(scratch), cores, progress)
        rich = await furnish_reference(project, home, furnished, progress)
        cards = [await proof.judged("reference", rich, ("reference",)) for _ in range(1 if quick else ROUNDS)]
        return Report(
            reference=_reference(project, cards[0]),
            empty=proof.empty(await proof.judged("seed", furnished, ())),
            cheats=_cheats([(cheat, await proof.cheat(cheat, furnished)) for cheat in project.cheats]),
            agree=_agree(cards),
            drift=drift.notices,
        )


class _Proof:
    """Judges the project's own trees, all with one secret, so that the same tree gets the same draws."""

    def __init__(
        self,
        project: Project,
        engine: Engine,
        cases: tuple[LockedCase, ...],
        scratch: Path,
        cores: int,
        progress: Progress,
    ) -> None:
        self.project, self.engine, self.cases = project, engine, cases
        self.scratch, self.cores, self.progress = scratch, cores, progress
        self.secret = secrets.token_bytes(32)

    async def judged(self, what: str, furnished: Furnished, layers: Sequence[str]) -> Scorecard:
        card, _ = await self._judge(what, furnished, layers)
        return card

    async def cheat(self, cheat: Cheat, furnished: Furnished) -> str:
        """Why the cheat counts as not caught, or "" when it was."""
        card, judge = await self._judge(cheat.name, furnished, ("reference", f"cheats/{cheat.name}"))
        if not card.build.ok:
            return f"does not build, which proves nothing: {card.build.reason}"
        twisted = {case.id for case in self.cases if cheat.loses and judge.twist(case.id) == cheat.loses}
        return _got_through(cheat, [card.verdicts[case.id] for case in self.cases], twisted)

    def empty(self, card: Scorecard) -> Empty:
        cases = {case.id for case in self.cases}
        return Empty(card.build.ok, tuple(sorted(card.passed() & cases)), len(cases))

    async def _judge(self, what: str, furnished: Furnished, layers: Sequence[str]) -> tuple[Scorecard, RoomJudge]:
        self.progress(f"{what}: {len(self.cases)} cases")
        plan = judge_plan(
            self.project, furnished, self.cases, scratch=self.scratch, secret=self.secret, cores=self.cores
        )
        judge = RoomJudge(self.engine, plan, Labels("project-check", 0, "judge"))
        tree = Layers((self.project.folder / "seed", *(self.project.folder / layer for layer in layers)))
        shown = await judge.judge(tree, Selection.full())
        hidden = await judge.judge(tree, Selection.heldout())
        await judge.close()
        if void := shown.void or hidden.void:
            raise CheckFailed(f"{what}: {void}")
        card = Scorecard(tree.id, "check", shown.build, {**shown.verdicts, **hidden.verdicts})
        counts = ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in card.counts().items())
        self.progress(f"{what}: {counts or card.build.reason}")
        return card, judge


def _reference(project: Project, card: Scorecard) -> Reference:
    if project.reference is None:
        return Reference({}, ("there is no reference/; without one nothing shows that the judge can be satisfied",))
    if not card.build.ok:
        return Reference({}, (f"does not build: {card.build.reason}",))
    counts = card.counts()
    return Reference(counts, tuple(_below(project.reference.suites, counts, card)))


def _below(expected: Mapping[str, float], counts: Mapping[str, tuple[int, int]], card: Scorecard) -> Iterator[str]:
    for name, (passed, total) in counts.items():
        share = expected.get(name, 1.0)
        if passed < share * total:
            lost = (
                v for v in card.verdicts.values() if v.case.startswith(f"{name}/") and v.outcome is not Outcome.PASS
            )
            first = next(lost)
            yield f"{name} {passed}/{total}, expected {share:g}; first {first.case}: {first.reason}"


def _got_through(cheat: Cheat, verdicts: Sequence[Verdict], twisted: set[str]) -> str:
    passed = [verdict.case for verdict in verdicts if verdict.outcome is Outcome.PASS]
    lost = [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASS]
    if len(passed) > cheat.passes * len(verdicts):
        return f"passes {len(passed)} of {len(verdicts)} cases, first {passed[0]}"
    if kept := twisted.intersection(passed):
        return f"passes {len(kept)} cases drawn as {cheat.loses}, first {min(kept)}"
    if not lost:
        return "no case judged it"
    if 2 * sum(cheat.reason in verdict.reason for verdict in lost) < len(lost):
        return f"was not stopped by {cheat.caught}, but: {lost[0].reason}"
    return ""


def _cheats(results: Sequence[tuple[Cheat, str]]) -> Cheats:
    missed = tuple(f"{cheat.name}: {why}" for cheat, why in results if why)
    return Cheats(len(results) - len(missed), len(results), missed)


def _agree(cards: Sequence[Scorecard]) -> Agree:
    cases = sorted({case for card in cards for case in card.verdicts})
    unsteady = tuple(case for case in cases if len({_outcome(card, case) for card in cards}) > 1)
    return Agree(len(cases) - len(unsteady), len(cases), unsteady)


def _outcome(card: Scorecard, case: str) -> Outcome:
    return card.verdicts[case].outcome if case in card.verdicts else Outcome.MISSING
