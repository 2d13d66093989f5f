"""Which seats may start a session now: sixteen on an empty tree write sixteen compilers, an idle one costs nothing."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from orchestrator import board

PLANNER: Final = "planner"
AHEAD: Final = 2  # ready tasks for each builder, from which on a planner is not needed


def next_task(
    db: sqlite3.Connection, seat: str, roles: Mapping[str, str], live: Mapping[str, str], *, any_case_passes: bool
) -> str:
    """The task that a free seat best begins with; "" leaves it to the seat. Raises `board.Refused`: why it stays idle.

    `roles` has all seats in their order, `live` the sessions of those that have one. A planner rests until something
    has happened since its last session. Until a case passes on main, one seat works, a planner that does not rest if
    there is one. Then a builder for each ready task whose folders overlap no claimed task's, and a planner while there
    are less than `AHEAD` ready tasks for each builder.
    """
    ready, claims = board.ready(db), board.claims(db)
    news = "SELECT max(seq) FROM journal WHERE kind IN ('landed', 'bounced', 'released', 'task-closed')"
    ended = f"SELECT 1 FROM journal WHERE kind = 'session-ended' AND seat = ? AND seq > ifnull(({news}), 0)"
    resting = {name for name, role in roles.items() if role == PLANNER and db.execute(ended, (name,)).fetchone()}
    if seat in resting:
        raise board.Refused("nothing has landed, bounced or been released since its last session")
    if not any_case_passes:
        alone = min(roles, key=lambda name: (name in resting, name not in live, roles[name] != PLANNER))
        if seat != alone:
            raise board.Refused(f"no case passes yet; {alone} works alone")
        if roles[seat] != PLANNER and (ready or not board.open_tasks(db)):
            return ready[0].id if ready else ""
    builders = [name for name in roles if roles[name] != PLANNER]
    if seat not in builders:
        if any_case_passes and ready and len(ready) >= AHEAD * len(builders):
            raise board.Refused(f"{len(ready)} tasks are ready")
        return ""
    # Sessions that hold no task yet will take the best ones, then the free seats before this one.
    holding = {held.session for held in claims}
    undecided = sum(name in live and live[name] not in holding for name in builders)
    place = undecided + [name for name in builders if name not in live].index(seat)
    folders, apart = [held.touches for held in claims if held.touches], 0
    for task in ready:
        if task.touches and any(board.overlap(task.touches, other) for other in folders):
            continue
        if apart == place:
            return task.id
        folders += [task.touches] if task.touches else []
        apart += 1
    spoken = f"each of the {len(ready)} ready tasks is spoken for or in folders of others"
    raise board.Refused(spoken if ready else "no task is ready")
