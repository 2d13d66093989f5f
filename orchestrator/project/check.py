"""`project check`: the proof that a project's judge judges. A good solution passes, nothing passes for nothing, cheats
are caught by what was meant to catch them, and asking three times gives one answer."""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.project.folder import overlaid, text_digest
from orchestrator.project.furnishing import Furnished, Layers, Progress, furnish, judging
from orchestrator.project.lock import check_lock, locked_cases, read_lock
from orchestrator.project.schema import Cheat, Project
from sandbox.room import Engine, RoomError
from verifiers.judge import RoomJudge
from verifiers.scorecard import Outcome, Scorecard, Selection, Tier, Verdict
from verifiers.suites import LockedCase

QUICK_CASES: Final = 40
QUICK_CHEAT: Final = 16  # of these, for each cheat and each honest variation: there are many of them
ROUNDS: Final = 3
UNSTEADY: Final = "unsteady: "
SHARES: Final = (Tier.FULL, Tier.MAIN, Tier.HELDOUT)


@dataclass(frozen=True)
class Caught:
    """Of the cheats. `missed` has a line for each that was not caught, or not by what was meant to."""

    caught: int
    total: int
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Honest:
    """Of odd but right solutions. `flagged` has a line for each that is judged otherwise than the reference."""

    total: int
    flagged: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What was asked, and what is `wrong`: a line for everything that is not proved, by what it is about."""

    reference: Mapping[str, tuple[int, int]]  # passed and total of each suite
    empty: Mapping[str, tuple[int, int]]  # the seed's, of suites with cases
    cheats: Caught
    honest: Honest
    agree: bool  # every round said the same of every case
    cases: int  # that were asked in every round
    drift: tuple[str, ...]  # packages that moved since the lock
    wrong: Mapping[str, Sequence[str]]

    @property
    def ok(self) -> bool:
        return not any(self.wrong.values())


@dataclass(frozen=True)
class Bench:
    """Where trees of a project are judged, all with one secret, so that the same tree gets the same draws."""

    engine: Engine
    home: Path
    cores: int
    secret: bytes
    progress: Progress

    async def judged(
        self,
        using: Furnished,
        cases: Sequence[LockedCase],
        *layers: str,
        rounds: int = 1,
        floor: Collection[str] = (),
        may_void: bool = False,
    ) -> tuple[list[Scorecard], RoomJudge]:
        """All the cases, shown and held out, on the seed with `layers` over it, in each round; tests of the `floor`
        that are not reported are missing. Raises `RoomError` when the judge failed, unless that may be its doing:
        the gate bounces a change that cannot be judged where main can."""
        what, cards = layers[-1] if layers else "seed", list[Scorecard]()
        tree = Layers(tuple(using.project.folder / layer for layer in ("seed", *layers)))
        async with judging(self.engine, using, cases, self.home, secret=self.secret, cores=self.cores) as judge:
            for _ in range(rounds):
                parts = [await judge.judge(tree, Selection(tier, floor=frozenset(floor))) for tier in SHARES]
                for part in parts:
                    if part.void and not may_void:
                        raise RoomError(f"{what} could not be judged: {part.void}")
                verdicts = {case: verdict for part in parts for case, verdict in part.verdicts.items()}
                cards.append(card := Scorecard(tree.id, "check", parts[0].build, verdicts))
                counts = ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in card.counts().items())
                self.progress(f"{what}: {counts or card.build.reason}")
        return cards, judge


async def check(folder: Path, engine: Engine, home: Path, *, cores: int, quick: bool, progress: Progress) -> Report:
    """Proves the locked project in `folder`. `quick` takes a sample of the cases, a smaller one for cheats.

    Raises `ConfigError`, `LockDiffers` when the folder is not what was locked, `RoomError` when the machine or the
    judge failed, so that nothing is proved either way.
    """
    with overlaid(folder) as project:
        furnished = await furnish(project, engine, home, progress)
        lock = read_lock(folder)
        drift = check_lock(furnished, lock)
        cases = few = locked_cases(furnished, lock)
        if quick:
            cases = tuple(sorted(cases, key=lambda case: text_digest(case.id))[:QUICK_CASES])
            few = cases[:QUICK_CHEAT]
        progress(f"{len(cases)} cases, {len(few)} of them for each cheat")
        rich = await furnish(project, engine, home, progress, for_reference=True)
        bench = Bench(engine, home, cores, secrets.token_bytes(32), progress)
        cards, _ = await bench.judged(rich, cases, "reference", rounds=ROUNDS)
        [seed], _ = await bench.judged(furnished, cases)
        ids = {case.id for case in cases}  # of suites with cases: the agents' own tests may well pass on the seed
        empty = [f"passes {id}" for id in sorted(seed.passed() & ids)]
        missed, before = [], seed.passed() | cards[0].passed()
        for name, cheat in project.cheats.items():
            if unknown := sorted({*cheat.lost} - before):
                missed.append(f"{name}: neither seed nor reference passes {', '.join(unknown)}, so it cannot be lost")
                continue
            above = ("reference", f"cheats/{name}")
            found, judge = await bench.judged(
                furnished, few, *above, rounds=cheat.rounds, floor=cheat.lost, may_void=True
            )
            if why := _missed(cheat, _steady(found), judge, few):
                missed.append(f"{name}: {why}")
        flagged = []
        for name in project.honest:
            [card], _ = await bench.judged(rich, few, "reference", f"honest/{name}")
            if why := _flagged(card, cards[0].passed().intersection(case.id for case in few)):
                flagged.append(f"{name}: {why}")
        unsteady = [one.case for one in _steady(cards).verdicts.values() if one.reason.startswith(UNSTEADY)]
        wrong = {
            "reference": tuple(_below(project, cards[0])),
            "seed": empty if seed.build.ok else ["does not build"],
            "cheat": missed,
            "honest": flagged,
            "unsteady": unsteady,
        }
        return Report(
            reference=cards[0].counts(),
            empty=Scorecard("", "", seed.build, {id: seed.verdicts[id] for id in ids & seed.verdicts.keys()}).counts(),
            cheats=Caught(len(project.cheats) - len(missed), len(project.cheats), tuple(missed)),
            honest=Honest(len(project.honest), tuple(flagged)),
            agree=not unsteady,
            cases=len({case for card in cards for case in card.verdicts}),
            drift=drift,
            wrong=wrong,
        )


def _steady(cards: Sequence[Scorecard]) -> Scorecard:
    """The rounds as one: what was not answered alike each time is lost."""
    first, verdicts = cards[0], dict[str, Verdict]()
    for id in sorted({id for card in cards for id in card.verdicts}):
        found = [card.verdicts.get(id, Verdict(id, Outcome.MISSING)) for card in cards]
        answers = sorted({_words(one) for one in found})
        verdicts[id] = (
            found[0] if len(answers) == 1 else Verdict(id, Outcome.FAIL, reason=UNSTEADY + " | ".join(answers))
        )
    return Scorecard(first.tree, first.tier, first.build, verdicts)


def _words(verdict: Verdict) -> str:
    return f"{verdict.outcome.name.lower()}: {verdict.reason}"


def _missed(cheat: Cheat, card: Scorecard, judge: RoomJudge, cases: Sequence[LockedCase]) -> str:
    """Why the cheat does not count as caught, or "" when it was."""
    if not card.build.ok:
        return f"does not build, which proves nothing: {card.build.reason}"
    ids, hidden = sorted(case.id for case in cases), {case.id for case in cases if case.heldout}
    passed = sorted(card.passed().intersection(ids))
    kept, found = sorted(card.passed().intersection(cheat.lost)), sorted(hidden.intersection(passed))
    lost = [card.verdicts[id] for id in cheat.lost or ids if id in card.verdicts and id not in passed]
    twisted = [id for id in passed if cheat.loses and judge.twist(id) == cheat.loses]
    if len(passed) > cheat.passes * len(ids):
        return f"passes {len(passed)} of {len(ids)} cases, first {passed[0]}"
    if len(found) > cheat.heldout * len(hidden):
        return f"passes {len(found)} of {len(hidden)} held-out cases, first {found[0]}"
    if twisted:
        return f"passes {len(twisted)} cases drawn as {cheat.loses}, first {twisted[0]}"
    if kept:
        return f"keeps {', '.join(kept)}"
    if 2 * sum(cheat.reason in _words(verdict) for verdict in lost) < len(lost):
        return f"was not stopped by {cheat.caught}; first {lost[0].case}: {_words(lost[0])}"
    return ""


def _flagged(card: Scorecard, expected: frozenset[str]) -> str:
    """Why an honest variation is judged otherwise than the reference, or ""."""
    if not card.build.ok:
        return f"does not build: {card.build.reason}"
    lost = sorted(expected - card.passed())
    return f"loses {len(lost)} of {len(expected)} cases, first {_words(card.verdicts[lost[0]])}" if lost else ""


def _below(project: Project, card: Scorecard) -> Iterator[str]:
    if project.reference is None:
        yield "there is no reference/, so nothing shows that the judge can be satisfied"
    elif not card.build.ok:
        yield f"the reference does not build: {card.build.reason}"
    else:
        for name, (passed, total) in card.counts().items():
            share = project.reference.suites.get(name, 1.0)
            if passed < share * total:
                verdicts = (one for one in card.verdicts.values() if one.case.startswith(f"{name}/"))
                lost = next(one for one in verdicts if one.outcome is not Outcome.PASS)
                yield f"{name} {passed}/{total}, expected {share:g}; first {lost.case}: {lost.reason}"
