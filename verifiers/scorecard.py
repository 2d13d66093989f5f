"""What a judge is asked and what it answers: the seam between the queue and the verifiers, with the arithmetic of the
ratchet. Pure data: no room, no clock, no database.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Tier(StrEnum):
    """Which cases are meant. `fast` ⊂ `full`; what is judged after landing (`main`, `heldout`) belongs to neither."""

    FAST = "fast"
    FULL = "full"
    CASES = "cases"
    MAIN = "main"
    HELDOUT = "heldout"


@dataclass(frozen=True)
class Selection:
    """`seed` draws the fast sample, a seat's own. `anew` runs every case, on a kept build if there is one; `cold`
    bypasses every cache.

    Once more than `patience` cases of the `floor` are lost, the rest is not run: it would teach nothing. 0: all are.
    """

    tier: Tier = Tier.FULL
    cases: frozenset[str] = frozenset()
    seed: str = ""
    cold: bool = False
    anew: bool = False
    floor: frozenset[str] = frozenset()
    patience: int = 0


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
    """One case's outcome: stable id `suite/name`, wall seconds, a line of reason, a measured value."""

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
    """Every asked case's verdict for one tree; of those that were run, if the judgement was stopped."""

    tree: str
    tier: str  # "fast", "full", "cases", "main", "heldout"
    build: Build
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    void: str = ""  # a reason: the judgement says nothing (control case failed, the judge broke)
    stopped: str = ""  # a reason: some of what was asked was not run

    def passed(self) -> frozenset[str]:
        return frozenset(case for case, verdict in self.verdicts.items() if verdict.outcome is Outcome.PASS)

    def lost(self, floor: frozenset[str]) -> tuple[str, ...]:
        """The ratchet: what main passed, the next main passes. Cases of the floor that this card does not show as
        passing, in sorted order. An empty floor asks only that the tree builds.

        A case that the card was not asked about is lost as well: absence proves nothing. `Outcome.ERROR` is not lost
        here, because it voids the judgement before this question is asked (`void`).
        """
        return tuple(sorted(floor - self.passed()))

    def failed(self, floor: frozenset[str]) -> tuple[str, ...]:
        """What is known to be lost: `lost`, without the cases that a stopped judgement did not come to."""
        return tuple(case for case in self.lost(floor) if not self.stopped or case in self.verdicts)

    def counts(self, unsure: Collection[str] = ()) -> dict[str, tuple[int, int]]:
        """Passed, which no case of `unsure` is, and total for each suite, in order of first appearance."""
        counts: dict[str, tuple[int, int]] = {}
        for case, verdict in self.verdicts.items():
            suite = case.split("/", 1)[0]
            passed, total = counts.get(suite, (0, 0))
            counts[suite] = (passed + (verdict.outcome is Outcome.PASS and case not in unsure), total + 1)
        return counts


class Tree(Protocol):
    """One tree of files, by its git tree id. Its bytes come as a tar stream, so that nothing of it is opened by path
    on the host and no attribute or filter of it is obeyed."""

    @property
    def id(self) -> str: ...

    def tar(self) -> AsyncIterator[bytes]: ...


class Judge(Protocol):
    async def judge(self, tree: Tree, selection: Selection) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
