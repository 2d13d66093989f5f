"""Fault points: named places of the main path at which a test kills, stops, delays or fails the process that passes.

Inert unless `ORCHESTRATOR_FAULTS` is set when the process starts: then a point is one look into an empty table. It says
`POINT=DEED` or `POINT*N=DEED`, several with `;` between: the deed is done at the Nth passing, once. docs/reliability.md
has the table of points.

    kill       SIGKILL to this process
    stop       SIGSTOP to this process, for whoever armed it to do what it likes at this very place
    sleep:S    this thread stays for S seconds: an event loop that hangs, or a slow writer
    ENOSPC     OSError: no space left on device
    FULL       sqlite3.OperationalError: database or disk is full
    IOERR      sqlite3.OperationalError: disk I/O error
"""

import errno
import os
import signal
import sqlite3
import time
from typing import Final

POINTS: Final = {
    # resume's own steps
    "epoch-begun": "the run is this process's; nothing was looked at yet",
    "repository-recovered": "git's leftovers of the earlier process are gone, public.git follows main",
    "rooms-swept": "rooms of the earlier process are ended, those to go on in are kept",
    "landing-recovered": "a landing that was cut is finished",
    "taken-over": "the ledger, the board and the run's state are this epoch's",
    "listening": "the run answers on its socket; no seat works yet",
    # a session and its room
    "session-begun": "a session's row, claim and opening are stored; it has no room",
    "room-recorded": "a room's record is written; nothing of it is mounted",
    "room-opened": "a session's room is there; its workspace may be empty",
    "workspace-laid": "the workspace is there, and the session was told what it must know of it",
    "checkpoint-packed": "a checkpoint has left its room; git has nothing of it",
    "checkpoint-written": "a checkpoint's ref is written",
    "session-ended": "a session's end is stored; its workspace lies there still",
    # a turn
    "attempt-reserved": "a request's worst case is set aside; nothing was sent",
    "reply-received": "the vendor has answered; nothing of it is stored",
    "reply-stored": "a reply and what it cost are stored; nothing has acted on it",
    "call-begun": "a call counts as begun; it has not run",
    "call-done": "a call has run; its result is not stored",
    "call-stored": "a call's result is stored",
    "verb-stored": "a verb's effect and its answer are stored",
    "job-claimed": "a background job's folder is made; no keeper lives",
    "job-started": "a background job's keeper lives",
    # a change
    "objects-kept": "a change's or a checkpoint's objects are in git; no ref names them",
    "ref-written": "its ref is written; no row names it",
    "handed-in": "a change is queued",
    "staged": "a change is staged",
    "judging": "a batch is being judged, as the state has it",
    "built": "a judge has built a tree; no case has run",
    "case-judged": "a judge has one case's verdict more",
    "judged-good": "a batch may land; nothing is stored of that",
    "judged-bad": "a batch has lost cases; nothing is stored of that",
    "bounced": "a change has bounced, and its session was told",
    "intent-stored": "a landing is intended; main has not moved",
    "main-moved": "main has moved; public.git has not",
    "main-published": "public.git has followed; the landing is not marked",
    "landing-marked": "a landing is marked, and the board knows",
    "after-judged": "a commit of main has its scorecard of what is judged after landing",
    # the state, and the end
    "commit": "in the writer's thread: a transaction is whole, and not durable",
    "committed": "in the writer's thread: it is durable, and nobody was told",
    "settled": "the team is at rest; the run's end is not written down",
}
VARIABLE: Final = "ORCHESTRATOR_FAULTS"


def _read(text: str) -> dict[str, tuple[int, str]]:
    """Deeds by point, each with how many passings come up to it. Raises `ValueError` for a point that nobody passes."""
    armed = {}
    for part in filter(None, text.split(";")):
        place, _, deed = part.partition("=")
        point, _, times = place.partition("*")
        if point not in POINTS or not deed:
            raise ValueError(f"{VARIABLE}: {part!r} is not POINT=DEED or POINT*N=DEED with a point of {__name__}")
        armed[point] = (int(times or 1), deed)
    return armed


_armed = _read(os.environ.get(VARIABLE, ""))


def at(point: str) -> None:
    """This process passes a point. Raises what is armed there."""
    if point in _armed:
        _pass(point)


def _pass(point: str) -> None:
    left, deed = _armed[point]
    if left > 1:
        _armed[point] = (left - 1, deed)
        return
    del _armed[point]
    match deed.partition(":"):
        case "kill" | "stop", _, _:
            os.kill(os.getpid(), signal.SIGKILL if deed == "kill" else signal.SIGSTOP)
        case "sleep", _, seconds:
            time.sleep(float(seconds))
        case "ENOSPC", _, _:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case (("FULL" | "IOERR"), _, _):
            raise sqlite3.OperationalError("database or disk is full" if deed == "FULL" else "disk I/O error")
        case _:
            raise ValueError(f"{VARIABLE}: {deed!r} is no deed")
