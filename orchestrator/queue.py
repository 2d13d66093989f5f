"""The merge queue's policy: which change is judged, what becomes of it, and nothing else.

No git, no process, no SQL: it speaks to `Trees` and a `Judge` and gives back a `Ruling`, so that a simulator can drive
the same code. One change at a time; the staged ratchet comes into this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from orchestrator.records import Change
from verifiers.judging import Judge, OnVerdict, Selection, Tier, Tree
from verifiers.scorecard import Outcome, Ratchet, Scorecard

SHOWN: Final = 5  # files or cases named in a reason


@dataclass(frozen=True)
class Stacked:
    """A change merged onto main: the tree that would land."""

    tree: Tree
    main: str


@dataclass(frozen=True)
class Clash:
    """A change that does not merge with main: the files, and both sides as the submitter may read them."""

    files: tuple[str, ...]
    hunks: str


class Trees(Protocol):
    async def stack(self, main: str, change: Change) -> Stacked | Clash: ...


class Fate(StrEnum):
    LAND = "land"
    BOUNCE = "bounce"
    VOID = "void"  # the judgement said nothing: judge again


@dataclass(frozen=True)
class Ruling:
    """What becomes of one change, and on which evidence."""

    fate: Fate
    reason: str = ""  # one line
    detail: str = ""  # what the submitter may read besides
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()
    stacked: Stacked | None = None
    card: Scorecard | None = None


async def rule(
    change: Change,
    main: str,
    ratchet: Ratchet,
    trees: Trees,
    judge: Judge,
    on_verdict: OnVerdict | None = None,
    held: frozenset[str] = frozenset(),
) -> Ruling:
    """Judges one change on the merged tree. It lands only if that tree builds and passes all that main passed.

    A case is lost only if it fails twice, the second time alone and cold; one that passes the second time after a
    failure that was not a timeout became unsteady with the change and is lost as well. `held` are cases known to be
    flaky on main itself, which nobody loses.
    """
    stacked = await trees.stack(main, change)
    if isinstance(stacked, Clash):
        reason = f"conflicts with main in {_some(stacked.files)}"
        return Ruling(Fate.BOUNCE, reason, detail=stacked.hunks)
    card = await judge.judge(stacked.tree, Selection(), on_verdict)
    if card.void:
        return Ruling(Fate.VOID, card.void)
    if not card.build.ok:
        return Ruling(
            Fate.BOUNCE, f"does not build: {card.build.reason}", card.build.log_tail, stacked=stacked, card=card
        )
    lost = tuple(case for case in ratchet.lost(card) if case not in held)
    if lost:
        again = await judge.judge(stacked.tree, Selection(Tier.CASES, frozenset(lost), cold=True))
        if again.void:
            return Ruling(Fate.VOID, again.void)
        lost = tuple(case for case in lost if not _recovered(case, card, again))
        card = _confirmed(card, again)
    if lost:
        return Ruling(Fate.BOUNCE, f"loses {_some(lost)}", _reasons(lost, card), lost, stacked=stacked, card=card)
    return Ruling(Fate.LAND, gained=ratchet.gained(card), stacked=stacked, card=card)


def _recovered(case: str, first: Scorecard, again: Scorecard) -> bool:
    """Whether a loss was the machine's: a timeout under load that passes alone."""
    before = first.verdicts.get(case)
    return before is not None and before.outcome is Outcome.TIMEOUT and case in again.passed()


def _confirmed(card: Scorecard, again: Scorecard) -> Scorecard:
    """The card with the second look at cases that timed out, which is what counts for them."""
    verdicts = dict(card.verdicts)
    for case, verdict in again.verdicts.items():
        if _recovered(case, card, again):
            verdicts[case] = verdict
    return Scorecard(card.tree, card.tier, card.build, verdicts, card.void)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _reasons(lost: tuple[str, ...], card: Scorecard) -> str:
    lines = []
    for case in lost[: 2 * SHOWN]:
        verdict = card.verdicts.get(case)
        lines.append(
            f"ERROR {case}: {verdict.reason or verdict.outcome.name.lower()}" if verdict else f"ERROR {case}: gone"
        )
    return "\n".join(lines)
