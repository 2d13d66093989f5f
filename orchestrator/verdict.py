"""A change's end, told to the session that submitted it: the answer of its `submit`, in the transaction of that end.

The session rests meanwhile. A bounce gives it back to its seat, with everything it knows; a landing ends it.
"""

from datetime import datetime
from sqlite3 import Connection
from typing import Final

from agents.tools import Answer, End
from orchestrator import board
from orchestrator.records import Change, ChangeState, SessionState, TaskState
from orchestrator.store import Tx, changes, sessions
from orchestrator.watch.render import some

ADVICE: Final = "`git pull --rebase` brings main under your work; repair, verify, submit again."
LIVE: Final = {
    ChangeState.QUEUED: "is queued: it waits to be merged and tried by the fast tier",
    ChangeState.STAGED: "is staged: merged onto what is queued, waits for the gate",
    ChangeState.PARKED: "is parked: conflicts with {}, not landed yet; it is tried again when that has its end",
    ChangeState.JUDGING: "is being judged by the gate; it lands if nothing is lost",
}


def standing(db: Connection, change: Change) -> str:
    """How a change stands, in one line for whoever waits for it."""
    if not change.state.terminal:
        stack = [one for one in changes.staged(db) if one.state is not ChangeState.PARKED]
        met = [one.id for one in stack if {*one.files} & {*change.files}]
        return f"{change.id} {LIVE[change.state].format(some(met) or 'what is staged')}"
    if change.state is ChangeState.LANDED:
        return f"{change.id} landed as {change.landed_as[:7]}"
    return f"{change.id} {change.state}: {change.reason.partition(chr(10))[0]}"


def tell(tx: Tx, change: Change) -> None:
    """Stores the answer, and with it what becomes of the session; a second time changes nothing."""
    answer = _answer(tx, change)
    if call := tx.one("SELECT started FROM call WHERE id = ?", change.call):
        began = call["started"] and datetime.fromisoformat(call["started"])
        sessions.finish_call(tx, change.call, answer, (tx.now - began).total_seconds() if began else 0.0)
    if answer.end is None:
        waiting = (SessionState.ACTIVE, change.session, SessionState.WAITING)
        tx.run("UPDATE session SET state = ? WHERE id = ? AND state = ?", *waiting)
        return
    if board.claim_of(tx.db, change.session):
        board.release(tx, change.session, f"its session ended: {answer.end}", gave_up=False)
    sessions.end(tx, change.session, answer.end, answer.text.partition("\n")[0])


def _answer(tx: Tx, change: Change) -> Answer:
    task, told = board.get(tx.db, change.task), f"{change.id} {change.state}: {change.reason}\n"
    if change.state is ChangeState.LANDED:
        closed = (
            f"closed: {task.reason}" if task.state is TaskState.CLOSED else "is not done yet and goes back to the board"
        )
        return Answer(f"{change.id} landed as {change.landed_as[:7]}, {task.id} {closed}", end=End.LANDED)
    if why := board.worn_out(tx.db, change.session, change.task):
        words = f"{told}{why}. It goes back to the board with this history, and your session ends: "
        return Answer(words + board.release(tx, change.session, why), refused=True, end=End.RELEASED)
    return Answer(told + ADVICE, refused=True)
