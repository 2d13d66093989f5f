"""Outcomes, scorecards and the arithmetic of the ratchet. Pure data: no room, no clock, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one case. The values are the letters of a stored scorecard."""

    PASS = "P"
    FAIL = "F"
    TIMEOUT = "T"
    SKIP = "S"
    ERROR = "E"  # the judge or the machine failed; never held against a change
    MISSING = "-"  # not answered, though asked: counts as lost for suites whose ids come from results


@dataclass(frozen=True)
class Verdict:
    """One case's outcome: stable id `suite/name[@variant]`, wall seconds, a line of reason, a measured value."""

    case: str
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Build:
    """How the tree's build went. `log_tail` is what an agent may read of it."""

    ok: bool
    seconds: float
    reason: str = ""
    log_tail: str = ""


@dataclass(frozen=True)
class Scorecard:
    """Every asked case's verdict for one tree."""

    tree: str
    tier: str  # "fast", "full", "cases", "heldout"
    build: Build
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    void: str = ""  # a reason: the judgement says nothing (control case failed, the judge broke)

    def passed(self) -> frozenset[str]:
        return frozenset(case for case, verdict in self.verdicts.items() if verdict.outcome is Outcome.PASS)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Passed and total for each suite, in order of first appearance."""
        counts: dict[str, tuple[int, int]] = {}
        for case, verdict in self.verdicts.items():
            suite = case.split("/", 1)[0]
            passed, total = counts.get(suite, (0, 0))
            counts[suite] = (passed + (verdict.outcome is Outcome.PASS), total + 1)
        return counts


@dataclass(frozen=True)
class Ratchet:
    """What main passed, the next main passes. An empty floor asks only that the tree builds."""

    floor: frozenset[str] = frozenset()

    def lost(self, card: Scorecard) -> tuple[str, ...]:
        """Cases of the floor that the card does not show as passing, in sorted order.

        A case that the card was not asked about is lost as well: absence proves nothing. `Outcome.ERROR` is not lost
        here, because it voids the judgement before this question is asked (`Scorecard.void`).
        """
        return tuple(sorted(self.floor - card.passed()))

    def gained(self, card: Scorecard) -> tuple[str, ...]:
        return tuple(sorted(card.passed() - self.floor))
