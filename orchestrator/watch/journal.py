"""The journal as people read it: its entries with a line of words for each, which `events.toml` of the store holds, and
the log files that are made of them."""

import csv
import io
import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from orchestrator.store import reading
from orchestrator.store.store import EVENTS
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import moment, money, percent, some, visible

INTERVAL_S: Final = 1.0  # between two looks of the scribe
NEWS: Final = tuple(EVENTS["news"])
WORDS: Final = {kind: event["says"] for part in EVENTS.values() for kind, event in part.items()}
GATE: Final = (
    "judging",
    "judged",
    "voided",
    "gate-paused",
    "landed",
    "bounced",
    "main-judged",
    "regressed",
    "heldout-judged",
)
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
        case "expires", _:
            return moment(value)
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


class Scribe:
    """Writes one run's log files, after the fact: they follow the state, and can be made again from it at any time.

    progress.log  gate.log  agents/agent-07.log    lines of the journal, as `logs` prints them
    cost.csv                                       one line a request, in order, as far as all are settled or in doubt

    `catch_up` may be called at any time, from one place at a time; `keep` repeats it.

    What an earlier process wrote stays where it is what the state says, and is written anew where it is not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seq = 0
        self._request = 0
        self._begun: set[str] = set()

    async def keep(self) -> None:
        """Follows the run until cancelled. Call `catch_up` once more after the last event."""
        while True:
            await anyio.to_thread.run_sync(self.catch_up)
            await anyio.sleep(INTERVAL_S)

    def catch_up(self) -> None:
        """Writes what has happened since the last call; at the first, all that has ever happened."""
        texts: dict[str, str] = defaultdict(str)
        with reading(self._folder / "state.db") as db:
            for entry in entries(db, "seq > ?", self._seq):
                seat, self._seq = f"agents/{entry.seat}.log", entry.seq
                wanted = {"progress.log": entry.kind in NEWS, "gate.log": entry.kind in GATE, seat: entry.seat}
                for name in filter(wanted.get, wanted):
                    stamp = f"{entry.at[:10]} {entry.at[11:19]}Z"
                    texts[name] += spoken(entry, stamp, with_seat=name != seat) + "\n"
            requests = db.execute(SQL["requests"], (self._request,))
            names, rows = [name for name, *_ in requests.description[1:]], requests.fetchall()
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerows([] if "cost.csv" in self._begun else [names])
        table.writerows(row[1:] for row in rows)
        self._request = rows[-1]["id"] if rows else self._request
        for name, text in (texts | {"cost.csv": out.getvalue()}).items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        file, old = self._folder / name, ""
        file.parent.mkdir(exist_ok=True)
        if name not in self._begun and file.exists():
            old = file.read_text(encoding="utf-8", errors="replace")
        self._begun.add(name)
        with file.open("a" if text.startswith(old) else "w", encoding="utf-8") as log:
            log.write(text.removeprefix(old))
