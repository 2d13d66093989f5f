"""Log files for people, written after the fact: they follow the state, and can be made again from it at any time.

progress.log  gate.log  agents/agent-07.log    lines of the journal, as `logs` prints them
cost.csv                                       one line a request, once it is settled or in doubt
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from orchestrator.store import reading
from orchestrator.watch.journal import GATE, NEWS, Entry, entries, spoken

INTERVAL_S: Final = 1.0
TOKENS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
_REQUESTS: Final = f"""
    SELECT id, at, session, turn, task, coalesce(nullif(resolved, ''), model) AS model, state,
        CASE WHEN state = 'free' THEN '0' WHEN micro IS NULL THEN 'unknown'
            ELSE printf('%d.%06d', micro / 1000000, micro % 1000000) END AS usd,
        {", ".join(f"coalesce(nullif(usage, '') ->> '{kind}', 0) AS {kind}" for kind in TOKENS)}
    FROM (SELECT *, iif(state = 'in-doubt', reserved, cost) AS micro FROM attempt)
    WHERE id > ? OR id IN (SELECT value FROM json_each(?)) ORDER BY id"""


class Scribe:
    """Writes one run's log files. `catch_up` may be called at any time, from one place at a time; `keep` repeats it.

    What an earlier process wrote stays where it is what the state says, and is written anew where it is not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seq = 0
        self._request = 0
        self._in_flight: list[int] = []
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
            for entry in (found := entries(db, "seq > ?", self._seq)):
                for name in _files(entry):
                    stamp = f"{entry.at[:10]} {entry.at[11:19]}Z"
                    texts[name] += spoken(entry, stamp, with_seat=not name.startswith("agents/")) + "\n"
            self._seq = found[-1].seq if found else self._seq
            texts["cost.csv"] = self._requests(db)
        for name, text in texts.items():
            self._write(name, text)

    def _requests(self, db: sqlite3.Connection) -> str:
        """New requests that have come to their end. Those still in flight are kept in mind for the next time."""
        found = db.execute(_REQUESTS, (self._request, json.dumps(self._in_flight)))
        rows = found.fetchall()
        self._in_flight = [row["id"] for row in rows if row["state"] == "reserved"]
        self._request = max([self._request, *(row["id"] for row in rows)])
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        if "cost.csv" not in self._begun:
            table.writerow(name for name, *_ in found.description[1:])
        table.writerows(row[1:] for row in rows if row["state"] != "reserved")
        return out.getvalue()

    def _write(self, name: str, text: str) -> None:
        file, mode = self._folder / name, "a"
        file.parent.mkdir(exist_ok=True)
        if name not in self._begun and file.exists():
            old = file.read_text(encoding="utf-8", errors="replace")
            mode, text = ("a", text.removeprefix(old)) if text.startswith(old) else ("w", text)
        self._begun.add(name)
        with file.open(mode, encoding="utf-8") as log:
            log.write(text)


def _files(entry: Entry) -> Iterator[str]:
    if entry.kind in NEWS:
        yield "progress.log"
    if entry.kind in GATE:
        yield "gate.log"
    if entry.seat:
        yield f"agents/{entry.seat}.log"
