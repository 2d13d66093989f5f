"""A change's end, told to the session that submitted it: the answer of its `submit`, in the transaction of that end.

The session rests meanwhile. A bounce gives it back to its seat, with everything it knows; a landing ends it.
"""

from datetime import datetime
from typing import Final

from agents.tools import Answer, End
from orchestrator import board
from orchestrator.records import Change, ChangeState, SessionState, TaskState
from orchestrator.store import Tx, sessions

ADVICE: Final = "`git pull --rebase` brings main under your work; repair, verify, submit again."


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
