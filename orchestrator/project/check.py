"""`project check`: the proof that a project's judge judges. A good solution passes, nothing passes for nothing, cheats
are caught by what was meant to catch them, and asking three times gives one answer."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.project.folder import overlaid, text_digest
from orchestrator.project.furnishing import Furnished, Layers, Progress, furnish, judging
from orchestrator.project.lock import check_lock, locked_cases, read_lock
from orchestrator.project.schema import Cheat, Project
from sandbox.room import Engine, RoomError
from verifiers.judge import RoomJudge
from verifiers.scorecard import Outcome, Scorecard, Selection, Tier

QUICK_CASES: Final = 40
ROUNDS: Final = 3


@dataclass(frozen=True)
class Report:
    """What was asked, and what is `wrong`: a line for everything that is not proved, by what it is about."""

    reference: Mapping[str, tuple[int, int]]  # passed and total of each suite
    cheats: int
    cases: int  # that were asked in every round
    drift: tuple[str, ...]  # packages that moved since the lock
    wrong: Mapping[str, Sequence[str]]  # of the reference, the seed, the cheats and unsteady cases

    @property
    def ok(self) -> bool:
        return not any(self.wrong.values())


async def check(folder: Path, engine: Engine, home: Path, *, cores: int, quick: bool, progress: Progress) -> Report:
    """Proves the locked project in `folder`. `quick` takes a sample of the cases and one round.

    Raises `ConfigError`, `LockDiffers` when the folder is not what was locked, `RoomError` when the machine or the
    judge failed, so that nothing is proved either way.
    """
    with overlaid(folder) as project:
        furnished = await furnish(project, engine, home, progress)
        lock = read_lock(folder)
        drift = check_lock(furnished, lock)
        cases = locked_cases(furnished, lock)
        if quick:
            cases = tuple(sorted(cases, key=lambda case: text_digest(case.id))[:QUICK_CASES])
        secret = secrets.token_bytes(32)  # one, so that the same tree gets the same draws

        async def judged(what: str, using: Furnished, *layers: str) -> tuple[Scorecard, RoomJudge]:
            """All cases, shown and held out, on the seed with `layers` over it."""
            progress(f"{what}: {len(cases)} cases")
            tree = Layers(tuple(project.folder / layer for layer in ("seed", *layers)))
            async with judging(engine, using, cases, home, secret=secret, cores=cores) as judge:
                parts = [await judge.judge(tree, Selection(tier)) for tier in (Tier.FULL, Tier.MAIN, Tier.HELDOUT)]
            for part in parts:
                if part.void:
                    raise RoomError(f"{what} could not be judged: {part.void}")
            verdicts = {case: verdict for part in parts for case, verdict in part.verdicts.items()}
            card = Scorecard(tree.id, "check", parts[0].build, verdicts)
            counts = ", ".join(f"{name} {passed}/{total}" for name, (passed, total) in card.counts().items())
            progress(f"{what}: {counts or card.build.reason}")
            return card, judge

        rich = await furnish(project, engine, home, progress, for_reference=True)
        cards = [(await judged("reference", rich, "reference"))[0] for _ in range(1 if quick else ROUNDS)]
        seed, _ = await judged("seed", furnished)
        ids = {case.id for case in cases}  # of suites with cases: the agents' own tests may well pass on the seed
        empty = [f"passes {id}" for id in sorted(seed.passed() & ids)]
        missed = []
        for name, cheat in project.cheats.items():
            card, judge = await judged(name, furnished, "reference", f"cheats/{name}")
            if why := _missed(cheat, card, judge, sorted(ids)):
                missed.append(f"{name}: {why}")
        rounds = [{(one.case, one.outcome) for one in card.verdicts.values()} for card in cards]
        asked, agreed = set[tuple[str, Outcome]]().union(*rounds), rounds[0].intersection(*rounds)
        wrong = {
            "reference": tuple(_below(project, cards[0])),
            "seed": empty if seed.build.ok else ["does not build"],
            "cheat": missed,
            "unsteady": sorted({case for case, _ in asked - agreed}),
        }
        return Report(cards[0].counts(), len(project.cheats), len({case for case, _ in asked}), drift, wrong)


def _missed(cheat: Cheat, card: Scorecard, judge: RoomJudge, ids: Sequence[str]) -> str:
    """Why the cheat does not count as caught, or "" when it was."""
    if not card.build.ok:
        return f"does not build, which proves nothing: {card.build.reason}"
    passed = sorted(card.passed().intersection(ids))
    lost = [card.verdicts[id] for id in ids if id not in passed]
    twisted = [id for id in passed if cheat.loses and judge.twist(id) == cheat.loses]
    if len(passed) > cheat.passes * len(ids):
        return f"passes {len(passed)} of {len(ids)} cases, first {passed[0]}"
    if twisted:
        return f"passes {len(twisted)} cases drawn as {cheat.loses}, first {twisted[0]}"
    if 2 * sum(cheat.reason in verdict.reason for verdict in lost) < len(lost):
        return f"was not stopped by {cheat.caught}; first {lost[0].case}: {lost[0].reason}"
    return ""


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
