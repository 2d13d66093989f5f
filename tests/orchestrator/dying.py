"""`python -m tests.orchestrator.dying POINT RUN_DIR`: a run's process that kills itself with SIGKILL at a named point.

The points lie between the writes that recovery has to tell apart. The product knows nothing of them. `journal 37` is
any point, by how many events are journaled; `journal 37 tree` ends what runs below the process as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from orchestrator import verbs
from orchestrator.after import After
from orchestrator.cli.process import serve
from orchestrator.gate import Gate
from orchestrator.ledger import SessionMeter
from orchestrator.repository import Repository
from orchestrator.store import Store
from orchestrator.store.sessions import StoredLog

# name: (owner, attribute, whether it dies before the call instead of after it)
POINTS: Final[dict[str, tuple[Any, str, bool]]] = {
    "after a vendor has answered": (SessionMeter, "settle", True),
    "before a reply is stored": (StoredLog, "store_reply", True),
    "after a reply is stored": (StoredLog, "store_reply", False),
    "after a call has begun": (StoredLog, "begin", False),
    "after a submission is in git, before its row": (Repository, "receive", False),
    "after a change is queued": (verbs.Verbs, "_hand_in", False),
    "before a change is judged": (Gate, "judging", True),
    "before a change is put on the stack": (Repository, "commit", True),
    "after the intent, before main moves": (Repository, "land", True),
    "after main moved, before it is marked": (Repository, "land", False),
    "after a change is staged": (Gate, "staged", False),
    "after a landing is marked": (Gate, "landed", False),
}

AFTER: Final[dict[str, tuple[Any, str, bool]]] = {
    "after a loss is noted": (After, "_search", True),
    "after its culprit is named": (After, "_revert", True),
    "after what takes it back is in git, before its row": (Repository, "take_back", False),
    "after what takes it back is queued": (After, "_revert", False),
}
"""Of a run that loses what is judged after landing."""

JOURNAL: Final = "journal "


def arm(point: str) -> None:
    owner, name, before = (POINTS | AFTER)[point]
    whole: Callable[..., Any] = getattr(owner, name)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def dying(*arguments: Any, **named: Any) -> Any:
        if before:
            die()
        result = await whole(*arguments, **named)
        die()
        return result

    setattr(owner, name, dying)


def count(journaled: int, *, tree: bool) -> None:
    """Dies right after the commit that brings the journal to so many events, perhaps with everything below it."""
    commit = Store._commit

    def dying(store: Store) -> None:
        commit(store)
        if (store._db.execute("SELECT max(seq) FROM journal").fetchone()[0] or 0) >= journaled:
            for process in psutil.Process().children(recursive=True) if tree else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            os.kill(os.getpid(), signal.SIGKILL)

    Store._commit = dying  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    if sys.argv[1].startswith(JOURNAL):
        count(int(sys.argv[1].split()[1]), tree=sys.argv[1].endswith("tree"))
    else:
        arm(sys.argv[1])
    serve(Path(sys.argv[2]))
