"""Settles with the reference solution which cases a project may ask, and which rewritings of each.

A case that the reference fails cannot tell a good candidate from a bad one. It is dropped by `project lock`, and listed
with the reason, so that nobody has to wonder where it went.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from verifiers.judge import RoomJudge
from verifiers.judging import Tree
from verifiers.scorecard import Outcome, Verdict
from verifiers.suites import LockedCase

OnTrial = Callable[[Verdict], Awaitable[None]]


class ReferenceFailed(Exception):
    """The reference solution cannot settle anything: it does not build, or the machine failed."""


async def settle(
    judge: RoomJudge, reference: Tree, on_trial: OnTrial | None = None
) -> tuple[tuple[LockedCase, ...], dict[str, str]]:
    """Judges every case of the judge's plan, shown and held out, with every rewriting its plug-in offers. Returns the
    cases with the rewritings that are left, and why each of the others was dropped.

    The judge's plan has what the reference needs added to its images. Raises `ReferenceFailed` when the reference does
    not build or a case cannot be judged at all.
    """
    trials: dict[str, dict[str, Verdict]] = {case.id: {} for case in judge.plan.cases}

    async def one(case: LockedCase, twist: str) -> None:
        trials[case.id][twist] = await judge.try_case(case, built, twist)
        if on_trial:
            await on_trial(trials[case.id][twist])

    async with judge.built(reference, cold=True) as built:
        if not built.build.ok:
            raise ReferenceFailed(f"the reference does not build: {built.build.reason}")
        async with anyio.create_task_group() as tasks:
            for case in judge.plan.cases:
                for twist in judge.possible_twists(case):
                    tasks.start_soon(one, case, twist)
    verdicts = [verdict for tried in trials.values() for verdict in tried.values()]
    if broken := [verdict for verdict in verdicts if verdict.outcome is Outcome.ERROR]:
        raise ReferenceFailed(f"{len(broken)} cases could not be judged, first {broken[0].case}: {broken[0].reason}")
    kept: list[LockedCase] = []
    dropped: dict[str, str] = {}
    for case in judge.plan.cases:
        tried = sorted(trials[case.id].items())
        passed = [twist for twist, verdict in tried if verdict.outcome is Outcome.PASS]
        if passed:
            kept.append(replace(case, twists=tuple(filter(None, passed))))
        else:
            dropped[case.id] = f"{tried[0][1].outcome.name.lower()}: {tried[0][1].reason}"
    return tuple(kept), dropped
