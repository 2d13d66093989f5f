"""Why a change bounced, a task waits, a seat idles, a session ended, a case fails: what `why ID` answers.

Whatever has an id has a row, whose columns are facts, and entries in the journal that name it. Changes and cases have
verdicts besides.
"""

import re
import sqlite3
from typing import Final

from orchestrator.control import Refusal
from orchestrator.records import Change
from orchestrator.store import changes, rows
from orchestrator.watch.cases import facts
from orchestrator.watch.journal import entries, spoken
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import Answer, cell, clock, heading, plural, some, visible

HISTORY: Final = 12  # lines of history shown

_SEAT: Final = f"""
    SELECT state AS outcome, why AS reason, trim(task || ' ' || session) AS doing FROM ({SQL["seats"]})
    WHERE seat = :id"""
_NAMES: Final = "kind <> 'call' AND EXISTS (SELECT 1 FROM json_tree(data) WHERE value = ?)"
KINDS: Final = (
    (r"C\d+", "change", SQL["why_change"], _NAMES),
    (r"T\d+", "task", SQL["why_task"], _NAMES),
    (r"agent-\d+", "seat", _SEAT, "seat = ?"),
    (r"agent-\d+/\d+", "session", SQL["why_session"], "data ->> 'session' = ?"),
    (r"(?s).*", "case", "", _NAMES),
)
"""What an id looks like and is; its row: outcome, reason, next and further facts; the entries that are its history."""


def why(db: sqlite3.Connection, id: str) -> Answer:
    """Explains anything that has an id. Raises `Refusal` when the run knows nothing by this name."""
    _, kind, sql, history = next(row for row in KINDS if re.fullmatch(row[0], id))
    row = db.execute(sql, {"id": id}).fetchone() if "/" not in id or sql else facts(db, id)
    if row is None:
        forms = "C63 is a change, T91 a task, agent-07 a seat, agent-07/12 a session, suite/name a case that is shown"
        raise Refusal(f"this run has no {kind} {id!r}: {forms}", "not_found")
    told = {
        heading(name): [visible(line) for line in cell(name, fact).splitlines() if line]
        for name, fact in dict(row).items()
    }
    reason, *detail = told.pop("reason") or [""]
    outcome, *_ = told.pop("outcome")
    answer: Answer = {"id": visible(id), "kind": kind, "outcome": outcome, "reason": reason, "lost": [], "gained": []}
    answer["next"] = "".join(told.pop("next", []))
    if kind == "change":
        answer |= _verdict(db, id)
        told["lost"] = [f"{one['case']}: passes on {one['passes_on'][0]} · {one['line']}" for one in answer["lost"]]
        if answer["gained"]:
            told["gained"] = [f"{plural(len(answer['gained']), 'case')}: {some(answer['gained'])}"]
    if not answer["lost"]:  # else that tells it
        told["detail"] = detail
    told["history"] = [spoken(entry, clock(entry.at)) for entry in entries(db, history, id)]
    return answer | {"facts": {label: lines[-HISTORY:] for label, lines in told.items()}}


def _verdict(db: sqlite3.Connection, id: str) -> Answer:
    """What the judgement that decided a change says against the main it was made from."""
    change = rows.get(db, Change, id)
    row = db.execute(SQL["judged"], (id, change.landed_as)).fetchone()
    card, before = changes.read_scorecard(db, row) if row else None, changes.scorecard_of(db, change.base)
    lost = []
    for case in change.lost:
        verdict = card.verdicts.get(case) if card else None
        line = f"ERROR {verdict.reason or verdict.outcome.name.lower()}" if verdict else "no verdict was stored"
        place = {"case": visible(case), "passes_on": [f"main {change.base[:7]}"], "fails_from": id}
        lost.append(place | {"runs": 2, "line": visible(line)})
    gained = card.passed() - (before.passed() if before else frozenset()) if card else frozenset()
    return {"lost": lost, "gained": [visible(case) for case in sorted(gained)]}
