"""Changes, scorecards and landings in the state."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from orchestrator.records import Change, ChangeState
from orchestrator.store import cards, matrix, rows
from orchestrator.store.cards import read_scorecard as read_scorecard
from orchestrator.store.store import Tx
from verifiers.scorecard import Scorecard, Tier

LIVE: Final = "state NOT IN ('landed', 'bounced', 'withdrawn')"
MAINS: Final = """(SELECT number, new AS commit_id, change FROM landing WHERE done
    UNION ALL SELECT 0, commit_id, '' FROM scorecard WHERE id = (SELECT min(id) FROM scorecard))"""
"""Main's commits: the seed has the first scorecard."""
END: Final = 1 << 62  # behind every place of main


def add(tx: Tx, change: Change) -> None:
    rows.insert(tx, change, number=int(change.id[1:]))
    facts = {"fixes": list(change.fixes), "added": change.added, "removed": change.removed}
    tx.journal("submitted", change.seat, change=change.id, session=change.session, task=change.task, **facts)


def live(db: sqlite3.Connection) -> list[Change]:
    """Changes that are not yet landed, bounced or withdrawn, oldest first: what they promise to fix is theirs."""
    return rows.find(db, Change, f"WHERE {LIVE} ORDER BY number")


def staged(db: sqlite3.Connection) -> list[Change]:
    """Live changes that have been on the stack, or parked, in the order in which they came there."""
    came = "(SELECT max(seq) FROM journal WHERE kind IN ('staged', 'parked') AND data ->> 'change' = change.id)"
    return rows.find(db, Change, f"WHERE {LIVE} AND state <> 'queued' ORDER BY {came}")


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


def bounce(
    tx: Tx, change: Change, reason: str, detail: str = "", lost: Iterable[str] = (), files: Iterable[str] = ()
) -> None:
    """Ends a change as bounced: `reason` is one line for everybody, `detail` what the submitter reads besides, `files`
    are those in conflict."""
    cases = list(lost)
    finish(tx, change, ChangeState.BOUNCED, reason=f"{reason}\n{detail}".strip(), lost=cases)
    tx.run("UPDATE task SET bounces = bounces + 1 WHERE id = ?", change.task)
    facts = {"task": change.task, "reason": reason, "lost": cases, "files": list(files)}
    tx.journal("bounced", change.seat, change=change.id, **facts)


def landed_since(db: sqlite3.Connection, base: str, files: Iterable[str]) -> list[Change]:
    """The changes that touched one of the files on main since a commit of main, oldest first."""
    after = "(SELECT coalesce(max(number), 0) FROM landing WHERE new = ?)"
    touched = "id IN (SELECT change FROM landing WHERE done AND number > " + after + ")"
    asked = set(files)
    return [
        one for one in rows.find(db, Change, f"WHERE {touched} ORDER BY number", base) if asked.intersection(one.files)
    ]


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


@dataclass(frozen=True)
class Main:
    """A commit of main and its place: the number of its change's landing, 0 for the seed, which no change made."""

    number: int
    commit: str
    change: str


def mains(db: sqlite3.Connection, first: int, last: int) -> list[Main]:
    """Main's commits between two places, these included, in order."""
    found = db.execute(f"SELECT * FROM {MAINS} WHERE number BETWEEN ? AND ? ORDER BY number", (first, last))
    return [Main(*row) for row in found]


def place(db: sqlite3.Connection, commit: str) -> int:
    return int(db.execute(f"SELECT number FROM {MAINS} WHERE commit_id = ?", (commit,)).fetchone()[0])


def newest_without(db: sqlite3.Connection, tier: Tier) -> str:
    """The newest commit of main that this tier says nothing of, or ""."""
    judged = "SELECT commit_id FROM scorecard WHERE tier = ? AND void = ''"
    sql = f"SELECT commit_id FROM {MAINS} WHERE commit_id NOT IN ({judged}) ORDER BY number DESC LIMIT 1"
    row = db.execute(sql, (tier,)).fetchone()
    return str(row["commit_id"]) if row else ""


def next_card(db: sqlite3.Connection, place: int, side: Literal["<", ">"], tier: Tier) -> tuple[int, Scorecard] | None:
    """The nearest commit of main before or after a place that was built and judged in this tier: its place and card."""
    order = {"<": "number DESC", ">": "number"}[side]
    judged = f"SELECT * FROM {MAINS} JOIN scorecard USING (commit_id) WHERE tier = ? AND void = '' AND built"
    row = db.execute(f"{judged} AND number {side} ? ORDER BY {order}, id DESC LIMIT 1", (tier, place)).fetchone()
    return (row["number"], read_scorecard(db, row)) if row else None


def newest_card(db: sqlite3.Connection, tier: Tier) -> Scorecard | None:
    """Of the newest commit of main that was built and judged in this tier."""
    found = next_card(db, END, "<", tier)
    return found[1] if found else None


def promises(db: sqlite3.Connection) -> list[Change]:
    """What holds tasks: live changes, and of those that landed since main was last judged after landing what they
    promise of the suites judged there."""
    place = "ifnull((SELECT number FROM landing WHERE new = commit_id), 0)"  # the seed's
    judged = f"SELECT max({place}) AS place, counts FROM scorecard WHERE tier = 'main' AND void = '' AND built"
    newest = db.execute(judged).fetchone()
    if newest["place"] is None:
        return live(db)
    suites = json.loads(newest["counts"])
    since = "WHERE state = 'landed' AND id IN (SELECT change FROM landing WHERE done AND number > ?) ORDER BY number"
    landed = [
        replace(one, task="", fixes=tuple(case for case in one.fixes if case.split("/", 1)[0] in suites))
        for one in rows.find(db, Change, since, newest["place"])
    ]
    return [*landed, *live(db)]


def intend(tx: Tx, change: str, old: str, new: str, scorecard: int) -> None:
    """Stores the intent to move main, before it moves."""
    facts = {"change": change, "old": old, "new": new, "scorecard": scorecard}
    rows.put(tx, "landing", at=tx.now, **facts)
    tx.journal("landing", **facts)
