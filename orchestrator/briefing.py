"""The block that the run writes as a session's first message. Pure text from facts; agents' words in it are quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.visible import visible

CHANGES_SHOWN = 5
NOTE_LINES = 5


@dataclass(frozen=True)
class Briefing:
    """What a session is told about itself. `task` is None when it has to choose one."""

    seat: str
    role: str
    number: int
    others: int
    task: str | None
    task_text: str
    usd: str | None
    minutes: int | None
    main: str
    counts: Mapping[str, tuple[int, int]]
    landed: Sequence[str]
    notes: Sequence[str]


def opening(facts: Briefing) -> str:
    left = []
    if facts.usd is not None:
        left.append(f"{facts.usd} USD")
    if facts.minutes is not None:
        left.append(f"{facts.minutes} min")
    suites = " · ".join(f"{name} {passed}/{total}" for name, (passed, total) in facts.counts.items())
    lines = [
        f"You are {facts.seat}, {_a(facts.role)}, in session {facts.number} of this seat. "
        f"{facts.others} other seats work at the same time.",
        f"Task: {facts.task or 'none yet: call tasks'}    Left for this session: {', '.join(left) or 'not limited'}.",
        f"Main: {facts.main[:7]}, {suites or 'nothing passes yet'}.",
    ]
    if facts.landed:
        lines.append("Changed since your last session:")
        lines += [f"  {visible(line)}" for line in facts.landed[-CHANGES_SHOWN:]]
    else:
        lines.append("Changed since your last session: nothing.")
    if facts.notes:
        lines.append("Notes of whoever held this task before:")
        lines += [f"  > {visible(line)}" for line in facts.notes[:NOTE_LINES]]
    else:
        lines.append("Notes of whoever held this task before: none.")
    if facts.task_text:
        lines += ["", facts.task_text]
    return "\n".join(lines)


def _a(role: str) -> str:
    return f"an {role}" if role[:1] in "aeiou" else f"a {role}"
