"""Changes, scorecards and landings in the state."""

import json
import sqlite3
from collections.abc import Iterable
from typing import Final

from orchestrator.records import Change, ChangeState
from orchestrator.store import cards, matrix, rows
from orchestrator.store.cards import read_scorecard as read_scorecard
from orchestrator.store.store import Tx
from verifiers.scorecard import Scorecard

LIVE: Final = "state NOT IN ('landed', 'bounced', 'withdrawn')"


def add(tx: Tx, change: Change) -> None:
    rows.insert(tx, change, number=int(change.id[1:]))
    facts = {"fixes": list(change.fixes), "added": change.added, "removed": change.removed}
    tx.journal("submitted", change.seat, change=change.id, session=change.session, task=change.task, **facts)


def live(db: sqlite3.Connection) -> list[Change]:
    """Changes that are not yet landed, bounced or withdrawn, oldest first: what they promise to fix is theirs."""
    return rows.find(db, Change, f"WHERE {LIVE} ORDER BY number")


def move(tx: Tx, change: str, state: ChangeState) -> None:
    """Moves a live change to another live state. A terminal change stays what it is (P2)."""
    if tx.run(f"UPDATE change SET state = ? WHERE id = ? AND {LIVE}", state.value, change) != 1:
        raise KeyError(f"{change} is not a live change")


def finish(
    tx: Tx, change: Change, state: ChangeState, *, reason: str = "", lost: Iterable[str] = (), landed_as: str = ""
) -> None:
    """Ends a change, once: a second end raises `KeyError` and undoes the caller's transaction (P2)."""
    move(tx, change.id, state)
    rows.update(tx, "change", change.id, ended=tx.now, reason=reason, lost=tuple(lost), landed_as=landed_as)


def bounce(tx: Tx, change: Change, reason: str, detail: str = "", lost: Iterable[str] = ()) -> None:
    """Ends a change as bounced: `reason` is one line for everybody, `detail` what the submitter reads besides."""
    cases = list(lost)
    finish(tx, change, ChangeState.BOUNCED, reason=f"{reason}\n{detail}".strip(), lost=cases)
    tx.run("UPDATE task SET bounces = bounces + 1 WHERE id = ?", change.task)
    tx.journal("bounced", change.seat, change=change.id, task=change.task, reason=reason, lost=cases)


def add_scorecard(tx: Tx, card: Scorecard, *, commit: str = "", seconds: float = 0.0) -> int:
    """Stores a scorecard. Of a commit that is main's already, it goes into the matrix as well; a new main's goes there
    with its landing (`matrix.record`)."""
    whose = {"tree": card.tree, "commit": commit, "tier": card.tier, "void": card.void, "seconds": seconds}
    found = {"built": card.build.ok, "counts": json.dumps(card.counts())}
    id = rows.put(tx, "scorecard", at=tx.now, **whose, **found, **cards.keep(tx, card))
    if commit:
        matrix.record(tx)
    return id


def scorecard_of(db: sqlite3.Connection, commit: str, tier: str = "full") -> Scorecard | None:
    """The newest scorecard that counts for a commit of main."""
    sql = "SELECT * FROM scorecard WHERE commit_id = ? AND tier = ? AND void = '' ORDER BY id DESC LIMIT 1"
    row = db.execute(sql, (commit, tier)).fetchone()
    return None if row is None else read_scorecard(db, row)


def newest_without_heldout(db: sqlite3.Connection) -> str:
    """The newest commit of main that has no verdict on the held-out cases, or "". The seed has the first scorecard."""
    main = "commit_id IN (SELECT new FROM landing WHERE done) OR id = (SELECT min(id) FROM scorecard)"
    judged = "SELECT commit_id FROM scorecard WHERE tier = 'heldout' AND void = ''"
    sql = f"SELECT commit_id FROM scorecard WHERE ({main}) AND commit_id NOT IN ({judged}) ORDER BY id DESC LIMIT 1"
    row = db.execute(sql).fetchone()
    return str(row["commit_id"]) if row else ""


def intend(tx: Tx, change: str, old: str, new: str, scorecard: int) -> None:
    """Stores the intent to move main, before it moves."""
    facts = {"change": change, "old": old, "new": new, "scorecard": scorecard}
    rows.put(tx, "landing", at=tx.now, **facts)
    tx.journal("landing", **facts)
