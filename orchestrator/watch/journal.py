"""The journal as people read it: its entries with a line of words for each, which `events.toml` of the store holds."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.store.store import EVENTS
from orchestrator.watch.queries import SQL
from orchestrator.watch.text import money, percent, some, visible

NEWS: Final = tuple(EVENTS["news"])
WORDS: Final = {kind: event["says"] for part in EVENTS.values() for kind, event in part.items()}
GATE: Final = ("judging", "judged", "voided", "gate-paused", "landed", "bounced", "heldout-judged")
PARTS: Final = {"": "kind <> 'call'", "run": f"kind IN {NEWS}", "gate": f"kind IN {GATE}"}
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
