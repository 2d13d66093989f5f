"""The matrix of cases and commits: what became of every shown case on every commit of main, as far as it was judged.

Cards may come in any order: the newest main is judged first, slow suites and probes fill in what lies before it. The
matrix that they make is the same as if they had come in order. Held-out cards are never in it (P8).
"""

import json
import re
import sqlite3
from collections.abc import Sequence
from typing import Final

from orchestrator.store.cards import news, read_scorecard
from orchestrator.store.store import MIGRATIONS, Tx, utc_now
from verifiers.scorecard import Outcome, Tier

WHOLE: Final = (Tier.FULL.value, Tier.MAIN.value)  # tiers that judge every case of each suite that they judge
PARTS: Final = (Tier.FAST.value, Tier.CASES.value)
SHOWN: Final = (*WHOLE, *PARTS)
GONE: Final = Outcome.MISSING.value  # what is known of a case that its suite's card does not name

UNRECORDED: Final = f"""
    SELECT s.*, coalesce(l.number, 0) AS ordinal FROM scorecard s LEFT JOIN landing l ON l.new = s.commit_id
    WHERE s.commit_id <> '' AND s.void = '' AND s.tier IN {SHOWN}
        AND (l.done OR l.number IS NULL AND s.commit_id = (SELECT commit_id FROM scorecard ORDER BY id LIMIT 1))
        AND NOT EXISTS (SELECT 1 FROM judged WHERE suite = '' AND ordinal = coalesce(l.number, 0) AND scorecard = s.id)
    ORDER BY s.id"""
STATES: Final = """
    SELECT name, number, coalesce((SELECT outcome FROM cell WHERE shown_case = number AND ordinal <= :at
        ORDER BY ordinal DESC LIMIT 1), '-')
    FROM shown_case WHERE suite = :suite"""
"""The cases of a suite as they are known to be at an ordinal."""
LAST: Final = "SELECT ordinal, scorecard FROM judged WHERE suite = ? ORDER BY ordinal DESC, scorecard DESC LIMIT 1"
PROBED: Final = f"""
    SELECT 1 FROM judged JOIN scorecard s ON s.id = scorecard
    WHERE suite = '' AND ordinal >= ? AND s.tier IN {PARTS} LIMIT 1"""
NEXT: Final = "SELECT * FROM judged WHERE suite = ? AND ordinal > ? ORDER BY ordinal, scorecard DESC LIMIT 1"
PIN: Final = """
    INSERT INTO cell SELECT :number, :next, :outcome, :reason
    WHERE NOT EXISTS (SELECT 1 FROM cell WHERE shown_case = :number AND ordinal > :at AND ordinal <= :next)"""
"""What the next judgement found is written down, where it was what a cell says that changes now."""


def record(tx: Tx) -> None:
    """Brings the matrix up to date with the shown cards of main that are stored: main's new commit, one that was judged
    after its landing, and whatever an earlier version left."""
    for row in tx.db.execute(UNRECORDED).fetchall():
        _insert(tx, row)


def complete(db: sqlite3.Connection) -> None:
    """For who only reads: what of main is not recorded in this state, because an earlier version wrote it, is recorded
    in tables that belong to this connection and end with it."""
    known = db.execute("SELECT 1 FROM pragma_table_info('cell')").fetchone()
    if known and db.execute(UNRECORDED).fetchone() is None:
        return
    script = next(text for text in MIGRATIONS if "CREATE TABLE cell" in text)
    for table in re.findall(r"CREATE TABLE ((?:shown_case|judged|cell) .*?;)", script, re.DOTALL):
        db.execute(f"CREATE TEMP TABLE {table}")
    record(Tx(db, 0, utc_now()))


def _insert(tx: Tx, row: sqlite3.Row) -> None:
    """Enters the card of a row. A later card of the same commit corrects an earlier one."""
    at, suites, whole = row["ordinal"], list(json.loads(row["counts"])), row["tier"] in WHOLE
    again = tx.one("SELECT 1 FROM judged WHERE suite = '' AND ordinal = ?", at)
    since, said = news(tx.db, row)
    follows = whole and not again and _follows(tx, since, row["tier"], at, suites)
    if not follows:
        said = _said(tx.db, row)
    sql, names = STATES, ""
    if follows or not whole:
        sql, names = f"{STATES} AND name IN (SELECT value FROM json_each(:names))", json.dumps(list(said))
    found = [(case, case.split("/", 1)[0]) for case in said]
    tx.db.executemany("INSERT OR IGNORE INTO shown_case (name, suite) VALUES (?, ?)", found)
    for suite in ("", *suites) if whole else ("",):
        tx.run("INSERT INTO judged VALUES (?, ?, ?)", suite, at, row["id"])
    for suite in suites:
        cells, same, turned = [], [], []
        for name, number, before in tx.db.execute(sql, {"suite": suite, "at": at, "names": names}):
            now = said.get(name, GONE)
            if now[0] != before:
                turned.append((name, number, before))
            if now[0] != before or not whole:  # what is known of a part of a suite is in its cells alone
                cells.append((number, at, now[0], now[1:]))
            elif again:
                same.append((now[1:], number, at))
        tx.db.executemany("INSERT OR REPLACE INTO cell VALUES (?, ?, ?, ?)", cells)
        tx.db.executemany("UPDATE cell SET reason = ? WHERE shown_case = ? AND ordinal = ?", same)
        if turned and (later := tx.one(NEXT, suite, at)):
            (then,) = tx.db.execute("SELECT * FROM scorecard WHERE id = ?", (later["scorecard"],))
            reasons = _said(tx.db, then)
            for name, number, before in turned:
                facts = {"at": at, "next": later["ordinal"], "reason": reasons.get(name, GONE)[1:]}
                tx.db.execute(PIN, {"number": number, "outcome": before, **facts})


def _follows(tx: Tx, since: str, tier: str, at: int, suites: Sequence[str]) -> bool:
    """Whether a card is stored as changes to the one that last judged its suites, so that nothing else can differ from
    what is known."""
    last = {tuple(tx.one(LAST, suite) or ()) for suite in suites}
    if not since or len(last) != 1 or () in last:
        return False
    ((ordinal, card),) = last
    same = "SELECT 1 FROM scorecard WHERE id = ? AND details = ? AND tier = ?"
    return ordinal < at and tx.one(same, card, since, tier) is not None and tx.one(PROBED, ordinal) is None


def _said(db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, str]:
    """By case, the letter and reason of a card."""
    card = read_scorecard(db, row)
    return {case: verdict.outcome + verdict.reason for case, verdict in card.verdicts.items()}
