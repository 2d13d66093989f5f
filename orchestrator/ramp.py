"""Which seats may start a session now: sixteen on an empty tree write sixteen compilers, an idle one costs nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator import board
from orchestrator.store import tasks

PLANNER: Final = "planner"
AHEAD: Final = 2  # ready tasks for each builder, from which on a planner is not needed


@dataclass(frozen=True)
class Post:
    """A seat as the ramp sees it. `session` is its live session, or ""."""

    seat: str
    role: str
    session: str = ""


@dataclass(frozen=True)
class Seating:
    """What a free seat does next: starts, best with `task` ("" leaves it to the seat), or is idle for a reason."""

    task: str = ""
    idle: str = ""


def seats_wanted(
    db: sqlite3.Connection,
    posts: Sequence[Post],
    *,
    any_case_passes: bool,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Seating]:
    """An answer for each seat without a live session, in the order of `posts`.

    Until a case passes on main, one seat works, the planner if there is one. Then a builder for each ready task whose
    folders overlap no claimed task's, and a planner while there are less than `AHEAD` ready tasks for each builder. A
    planner that has just found nothing to plan is the caller's to hold back until the board has changed.
    """
    free = [post for post in posts if not post.session]
    working = [post for post in posts if post.session]
    ready = board.ready(db, weights)
    if not any_case_passes:
        if working:
            return {post.seat: Seating(idle=f"no case passes yet; {working[0].seat} works alone") for post in free}
        first = next((post for post in free if post.role == PLANNER), free[0] if free else None)
        task = ready[0].id if ready and first is not None and first.role != PLANNER else ""
        alone = f"no case passes yet; {first.seat if first else 'nobody'} works alone"
        return {post.seat: Seating(task) if post is first else Seating(idle=alone) for post in free}
    claimed = tasks.claims(db)
    holding = {held.session for held in claimed}
    undecided = sum(post.role != PLANNER and post.session not in holding for post in working)
    apart = _apart([(task.id, task.touches) for task in ready], [held.touches for held in claimed])
    work = iter(apart[undecided:])  # sessions that hold no task yet will take the best ones
    why = (
        "no task is ready"
        if not ready
        else f"each of the {len(ready)} ready tasks is spoken for or in folders of others"
    )
    enough = AHEAD * sum(post.role != PLANNER for post in posts)
    seating: dict[str, Seating] = {}
    for post in free:
        if post.role == PLANNER:
            full = bool(ready) and len(ready) >= enough
            seating[post.seat] = Seating(idle=f"{len(ready)} tasks are ready" if full else "")
        else:
            task = next(work, "")
            seating[post.seat] = Seating(task) if task else Seating(idle=why)
    return seating


def _apart(ready: Iterable[tuple[str, tuple[str, ...]]], taken: Iterable[tuple[str, ...]]) -> list[str]:
    """Tasks whose folders overlap neither a claimed task's nor those of a better one in this list."""
    chosen: list[str] = []
    folders = list(taken)
    for task, touches in ready:
        if not any(board.overlap(touches, other) for other in folders):
            chosen.append(task)
            folders.append(touches)
    return chosen
