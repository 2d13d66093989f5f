"""The journal as people read it: its entries with a line of words for each, and following it while it grows."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.watch.queries import SQL
from orchestrator.watch.text import money, percent, some, visible

NEWS: Final[dict[str, tuple[str, str]]] = {
    "run-started": ("started", "{name}: {agents} seats for {project}, by {by}"),
    "run-resumed": ("resumed", "by {by}"),
    "run-paused": ("paused", "by {by}"),
    "run-draining": ("draining", "{reason}, by {by}"),
    "run-stopped": ("stopped", "{reason}"),
    "run-ended": ("ended", "{reason}"),
    "condition-changed": ("changed", "{what}: {old} → {new}, by {by}"),
    "revealed": ("revealed", "held-out results, by {by}"),
    "task-dropped": ("dropped", "{task} {title}: {reason}, by {by}"),
    "task-reopened": ("reopened", "{task} {title}: {reason}"),
    "voided": ("void", "{changes}: {reason}"),
    "gate-paused": ("gate", "paused: {reason}"),
    "landed": ("landed", "{change} {title} · {progress}"),
    "bounced": ("bounced", "{change} {reason} (why {change})"),
    "withdrawn": ("withdrawn", "{change}: {reason}"),
    "spent": ("spent", "{share} of the budget, {micro}"),
    "seat-idle": ("idle", "{reason}"),
    "seat-crashed": ("crashed", "{error}; again in {wait_s} s"),
    "room-lost": ("room", "{session} lost its room: {reason}"),
    "swept": ("swept", "{count} rooms of a dead process"),
}
DETAIL: Final[dict[str, tuple[str, str]]] = {
    "task-added": ("task", "{task} {title}, from {source}"),
    "task-closed": ("closed", "{task} {title}: {reason}"),
    "claimed": ("claim", "{task} {title}"),
    "released": ("release", "{task} {title}: {reason}"),
    "session-started": ("session", "{session} begins: {role}, {model}"),
    "session-ended": ("session", "{session} ends: {end}, {turns} turns. {note}"),
    "session-continued": ("session", "{session} goes on: {doing}"),
    "call": ("{name}", "{brief} · {seconds} s{failed}"),
    "verified": ("verify", "{what} {passed}/{total} · {seconds} s"),
    "noted": ("note", "{topic}: {text}"),
    "said": ("said", "to {to}, by {by}: {text}"),
    "submitted": ("submit", "{change} for {task} {title}: +{added} -{removed}, fixes {fixes}"),
    "judging": ("judging", "{changes} on main {main}, {tier} tier"),
    "judged": ("judged", "{changes}: {passed}/{total} pass in {seconds} s, {gained} gained, lost: {lost}"),
    "landing": ("landing", "{change} as {new}"),
    "heldout-judged": ("held-out", "judged for {commit}"),
    "waiting": ("waits", "{why}{until}"),
    "tasks-ordered": ("ordered", "{tasks}, by {by}"),
    "attempt-failed": ("retry", "{session} turn {turn}: {failure}, again in {wait_s} s"),
}
"""What is no news to a person who looks at the whole run."""
WORDS: Final = NEWS | DETAIL
GATE: Final = ("judging", "judged", "voided", "gate-paused", "landed", "bounced", "heldout-judged")
PARTS: Final = {"": "kind <> 'call'", "run": f"kind IN {tuple(NEWS)}", "gate": f"kind IN {GATE}"}
"""What `logs` shows of a run, as SQL; any other part is a seat."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal. `seat` is "" for what concerns the whole run; `word` and `text` are safe to show."""

    seq: int
    at: str
    kind: str
    seat: str
    data: dict[str, Any]
    word: str
    text: str


def entries(db: sqlite3.Connection, where: str = "1", *values: object) -> list[Entry]:
    """The entries that a condition in SQL chooses, in order."""
    return [_entry(row) for row in db.execute(SQL["entries"].format(where=where), values)]


def spoken(entry: Entry, stamp: str, *, with_seat: bool = True) -> str:
    """An entry as it is printed: when, what, who, and the words."""
    seat = f"{entry.seat:<9} " if with_seat else ""
    return f"{stamp}  {entry.word:<9} {seat}{entry.text}".rstrip()


def _entry(row: sqlite3.Row) -> Entry:
    data = json.loads(row["data"])
    words = defaultdict(str, {name: _shown(name, value) for name, value in data.items()})
    words["title"] = visible(row["title"] or data.get("title", ""), 80)
    words["progress"] = visible(row["progress"] or "no case newly passes")
    word, text = (template.format_map(words).strip(" .:·") for template in WORDS[row["kind"]])
    return Entry(row["seq"], row["at"], row["kind"], visible(row["seat"]), data, word, text)


def _shown(name: str, value: Any) -> str:
    """A field of an entry as words."""
    match name, value:
        case "micro" | "old" | "new", int():  # the one condition that a person can change is the budget
            return money(value)
        case "share", _:
            return percent(value or 0, 1)
        case "why", "":
            return "no longer"
        case "until", _:
            return f", {value:.0f} s" if value else ""
        case _, bool():
            return f" · {name}" if value else ""
        case _, float():
            return f"{value:.0f}"
        case _, list():
            return some(value) or "none"
    shown = visible("nothing" if value is None else value)
    return shown[:7] if re.fullmatch("[0-9a-f]{40}", shown) else shown
