"""Which seats may start a session now: sixteen on an empty tree write sixteen compilers, an idle one costs nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator import board
from orchestrator.records import Task
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
    free, working = [post for post in posts if not post.session], [post for post in posts if post.session]
    ready = board.ready(db, weights)
    if not any_case_passes:
        alone = [*working, *sorted(free, key=lambda post: post.role != PLANNER)][:1]
        first = Seating(ready[0].id if ready and alone[0].role != PLANNER else "")
        idle = Seating(idle=f"no case passes yet; {alone[0].seat} works alone")
        return {post.seat: first if post in alone else idle for post in free}
    claims = tasks.claims(db)
    holding = {held.session for held in claims}
    undecided = sum(post.role != PLANNER and post.session not in holding for post in working)
    # Sessions that hold no task yet will take the best ones.
    work = list(_apart(ready, [held.touches for held in claims]))[undecided:]
    spoken = f"each of the {len(ready)} ready tasks is spoken for or in folders of others"
    full = bool(ready) and len(ready) >= AHEAD * sum(post.role != PLANNER for post in posts)
    seating: dict[str, Seating] = {}
    for post in free:
        if post.role == PLANNER:
            seating[post.seat] = Seating(idle=f"{len(ready)} tasks are ready" if full else "")
        elif work:
            seating[post.seat] = Seating(work.pop(0))
        else:
            seating[post.seat] = Seating(idle=spoken if ready else "no task is ready")
    return seating


def _apart(ready: Sequence[Task], folders: list[tuple[str, ...]]) -> Iterator[str]:
    """Ready tasks whose folders overlap neither those claimed nor those of a better one."""
    for task in ready:
        if not any(board.overlap(task.touches, other) for other in folders):
            folders.append(task.touches)
            yield task.id
