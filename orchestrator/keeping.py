"""What becomes of the work of a session that ends without landing it: it is kept for the task's next owner.

It is one commit of ours on main at `refs/kept/<task>`, which the next owner's workspace has as `kept/<task>`. Like a
checkpoint, of which it is made, it only goes back into a room; like a change, it may hold nothing that main may not.
"""

from functools import partial

from orchestrator import board, workspace
from orchestrator.desk import Desk
from orchestrator.quarantine import Refused
from orchestrator.records import Session
from sandbox import faults
from sandbox.room import Room


def room_name(session: Session) -> str:
    """Also of its checkpoints."""
    return session.id.replace("/", "-")


async def checkpoint(desk: Desk, session: Session, room: Room) -> str:
    """Saves the workspace at refs/checkpoints. What cannot be packed is told in the journal and tried again later;
    returns why, or ""."""
    try:
        stream = await workspace.packed(room.run, workspace.CHECKPOINT)
        faults.at("checkpoint-packed")
        await desk.repository.receive_checkpoint(stream, room_name(session))
        faults.at("checkpoint-written")
    except (workspace.Unpacked, Refused) as refusal:
        failure = {"session": session.id, "turn": 0, "failure": f"checkpoint: {refusal}", "wait_s": 0}
        await desk.journal("attempt-failed", session.seat, **failure)
        return str(refusal)
    return ""


async def keep_work(desk: Desk, session: Session, why: str) -> str:
    """Keeps the session's newest checkpoint for the next owner of the task that it holds; says what came of it."""
    held = await desk.store.read(partial(board.claim_of, session=session.id))
    found = await desk.repository.checkpoint(room_name(session))
    if held is None or not found:
        return "no work kept"
    return await desk.repository.keep(held.task, found, session.id, why, desk.store.utc_now())


async def put_kept(desk: Desk, session: Session, room: Room, task: str, *, anew: bool = True) -> str:
    """Puts what is kept for a task into the session's workspace; returns what the session is told of it, or "".
    Not `anew`, what it was once given stays: what is kept by now may be its own, of a change that bounced."""
    if told := (await desk.repository.kept()).get(task, ""):
        commit, pack = await desk.repository.kept_pack(task, session.base)
        made = await room.run(workspace.kept(task, commit, pack, anew=anew))
        if not made.ok:
            return f"{told}\nyour workspace does not take it: {made.stderr.decode('utf-8', 'replace')[-200:]}"
    return words(task, told)


def words(task: str, told: str) -> str:
    """What is kept of earlier work, and how to look at it and take it; "" for nothing."""
    how = f"look: git diff main...kept/{task}   take it: git merge --squash kept/{task}"
    return f"{told}\n{how}" if told else ""
