"""What a main is worth: milestones earn credit by the share of cases that pass, held-out ones where there are any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from orchestrator.project.project import Milestone, Need
from verifiers.scorecard import Outcome, Scorecard


@dataclass(frozen=True)
class Earned:
    name: str
    credit: float
    of: float
    heldout: bool  # decided by held-out cases


def credit(milestones: Sequence[Milestone], shown: Scorecard | None, heldout: Scorecard | None) -> tuple[Earned, ...]:
    """Credit grows with share over threshold; of several needs the least advanced counts."""
    earned = []
    for milestone in milestones:
        progress = [_progress(need, shown, heldout) for need in milestone.needs]
        share = min(share for share, _ in progress)
        earned.append(
            Earned(milestone.name, milestone.credit * share, milestone.credit, any(hid for _, hid in progress))
        )
    return tuple(earned)


def _progress(need: Need, shown: Scorecard | None, heldout: Scorecard | None) -> tuple[float, bool]:
    hidden = _matching(need.cases, heldout)
    cases = hidden or _matching(need.cases, shown)
    card = heldout if hidden else shown
    if card is None or not cases:
        return 0.0, bool(hidden)
    passed = [card.verdicts[case] for case in cases if card.verdicts[case].outcome is Outcome.PASS]
    if need.kind == "share":
        return min(1.0, len(passed) / len(cases) / need.value), bool(hidden)
    values = [verdict.value for verdict in passed if verdict.value]
    if len(values) < len(cases):
        return 0.0, bool(hidden)
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return min(1.0, need.value / mean if need.kind == "<=" else mean / need.value), bool(hidden)


def _matching(pattern: str, card: Scorecard | None) -> list[str]:
    whole = pattern if "/" in pattern else f"{pattern}/*"
    return [case for case in card.verdicts if fnmatchcase(case, whole)] if card else []
