"""What a judge is asked and what it is given: the seam between the queue and the verifiers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from verifiers.scorecard import Scorecard, Verdict


class Tier(StrEnum):
    """Which cases are meant. `fast` ⊂ `full`; held-out cases belong to neither."""

    FAST = "fast"
    FULL = "full"
    CASES = "cases"
    HELDOUT = "heldout"


@dataclass(frozen=True)
class Selection:
    """`seed` draws the fast sample (a seat's own) and every drawn status; `cold` bypasses every cache."""

    tier: Tier = Tier.FULL
    cases: frozenset[str] = frozenset()
    seed: str = ""
    cold: bool = False


class Tree(Protocol):
    """One tree of files, by its git tree id. Its bytes come as a tar stream, so that nothing of it is opened by path
    on the host and no attribute or filter of it is obeyed."""

    @property
    def id(self) -> str: ...

    def tar(self) -> AsyncIterator[bytes]: ...


OnVerdict = Callable[[Verdict], Awaitable[None]]


class Judge(Protocol):
    async def judge(self, tree: Tree, selection: Selection, on_verdict: OnVerdict | None = None) -> Scorecard:
        """Builds the tree in a fresh room and runs the selected cases, each in rooms of its own.

        Never raises for what the candidate did. Trouble of the judge or the machine is `Scorecard.void`.
        """
        ...
