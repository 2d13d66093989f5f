"""The merge queue's policy: which change is judged, what becomes of it, and nothing else.

No git, no process, no SQL: it takes a merged tree and a `Judge` and gives back a `Ruling`, so that a simulator can
drive the same code. One change at a time; the staged ratchet comes into this module.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from orchestrator.quoting import visible
from verifiers.scorecard import Judge, Outcome, Scorecard, Selection, Tier, Tree, Verdict

SHOWN: Final = 5  # files or cases named in a reason


@dataclass(frozen=True)
class Conflict:
    """A change that does not merge with main. `hunks` is what git says, and main's difference to the files with both
    sides in them, clipped, for the submitter."""

    files: tuple[str, ...]
    hunks: str

    @property
    def reason(self) -> str:
        return f"conflicts with main in {_some(self.files)}"


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
    card: Scorecard | None = None  # of the merged tree


async def rule(tree: Tree | Conflict, floor: frozenset[str], judge: Judge) -> Ruling:
    """Judges one change on the tree merged with main. It lands only if that builds and passes all that main passed.

    A case is lost only if it fails twice, the second time alone and cold; one that passes the second time after a
    failure that was not a timeout became unsteady with the change and is lost as well. One is gained only if it passes
    twice: what passes by chance would hold up every change after it.
    """
    if isinstance(tree, Conflict):
        return Ruling(Fate.BOUNCE, tree.reason, tree.hunks)
    card = await judge.judge(tree, Selection(Tier.FULL, cold=True))
    if card.void:
        return Ruling(Fate.VOID, card.void)
    if not card.build.ok:
        return Ruling(Fate.BOUNCE, f"does not build: {card.build.reason}", card.build.log_tail, card=card)
    if lost := card.lost(floor):
        again = await judge.judge(tree, Selection(Tier.CASES, frozenset(lost), cold=True))
        if again.void:
            return Ruling(Fate.VOID, again.void)
        late = {case for case, verdict in card.verdicts.items() if verdict.outcome is Outcome.TIMEOUT}
        slow = late & again.passed()  # the machine's loss: a timeout under load that passes alone
        card = replace(card, verdicts={**card.verdicts, **{case: again.verdicts[case] for case in slow}})
        lost = tuple(case for case in lost if case not in slow)
    if lost:
        detail = "\n".join(error_line(case, card) for case in lost[: 2 * SHOWN])
        return Ruling(Fate.BOUNCE, f"loses {_some(lost)}", detail, lost, card=card)
    if gained := card.passed() - floor:
        again = await judge.judge(tree, Selection(Tier.CASES, gained, anew=True))
        if again.void:
            return Ruling(Fate.VOID, again.void)
        chance = {case: again.verdicts.get(case, Verdict(case, Outcome.MISSING)) for case in gained - again.passed()}
        card, gained = replace(card, verdicts={**card.verdicts, **chance}), gained - chance.keys()
    return Ruling(Fate.LAND, gained=tuple(sorted(gained)), card=card)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def error_line(case: str, card: Scorecard) -> str:
    """Why a case does not pass, as agents read it."""
    verdict = card.verdicts.get(case)
    return f"ERROR {case}: {visible(verdict.reason) or verdict.outcome.name.lower() if verdict else 'gone'}"
