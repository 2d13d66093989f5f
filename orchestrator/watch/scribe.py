"""Log files for people, written after the fact: they follow the state, and can be made again from it at any time.

progress.log  gate.log  agents/agent-07.log    lines of the journal, as `logs` prints them
cost.csv                                       one line a request, once it is settled or in doubt
scribe.json                                    how far they are, written last: what a crash left beyond it is cut off
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from orchestrator.store import reading
from orchestrator.watch.journal import GATE, Line, Narrator, entries, spoken
from orchestrator.watch.text import decimal

COLUMNS: Final = "at session turn task model state usd input output cache_read cache_write_5m cache_write_1h reasoning"
INTERVAL_S: Final = 1.0


class Scribe:
    """Writes one run's log files. `catch_up` may be called at any time, from one place at a time; `keep` repeats it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = folder / "scribe.json"

    async def keep(self) -> None:
        """Follows the run until cancelled. Call `catch_up` once more after the last event."""
        while True:
            await anyio.to_thread.run_sync(self.catch_up)
            await anyio.sleep(INTERVAL_S)

    def catch_up(self) -> None:
        """Appends what has happened since the last call, also since one of an earlier process."""
        mark = self._resume()
        texts: dict[str, list[str]] = {}
        with reading(self._folder / "state.db") as db:
            found = entries(db, after=mark["seq"])
            mark["seq"] = found[-1].seq if found else mark["seq"]
            for _, line in Narrator(db).tell(found):
                for name in _files(line):
                    stamp = f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
                    texts.setdefault(name, []).append(spoken(line, stamp, with_seat=not name.startswith("agents/")))
            if rows := _requests(db, mark):
                head = [] if "cost.csv" in mark["sizes"] else [COLUMNS.replace(" ", ",")]
                texts["cost.csv"] = head + rows
        for name, lines in texts.items():
            mark["sizes"][name] = _append(self._folder / name, lines)
        if texts:
            new = self._mark.with_suffix(".new")
            new.write_text(json.dumps(mark))
            new.replace(self._mark)

    def _resume(self) -> dict[str, Any]:
        """How far the files are. Files that are shorter than they should be are all made again."""
        empty: dict[str, Any] = {"seq": 0, "attempt": 0, "open": [], "sizes": {}}
        try:
            mark: dict[str, Any] = json.loads(self._mark.read_text())
        except (OSError, ValueError):
            mark = empty
        files = [self._folder / name for name in ("progress.log", "gate.log", "cost.csv")]
        files += (self._folder / "agents").glob("agent-*.log")
        sizes = {str(file.relative_to(self._folder)): file.stat().st_size for file in files if file.exists()}
        if any(sizes.get(name, -1) < size for name, size in mark["sizes"].items()):
            mark = empty
        for name, size in sizes.items():
            if size > mark["sizes"].get(name, 0):
                os.truncate(self._folder / name, mark["sizes"].get(name, 0))
        return mark


def _files(line: Line) -> list[str]:
    names = [name for name, wanted in (("progress.log", line.news), ("gate.log", line.kind in GATE)) if wanted]
    return names + ([f"agents/{line.seat}.log"] if re.fullmatch(r"agent-\d+", line.seat) else [])


def _append(file: Path, lines: list[str]) -> int:
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")
    return file.stat().st_size


def _requests(db: sqlite3.Connection, mark: dict[str, Any]) -> list[str]:
    """New requests that have come to their end. Those still in flight are kept in mind for the next time."""
    flying = mark["open"]
    sql = f"SELECT * FROM attempt WHERE id > ? OR id IN ({', '.join('?' * len(flying))}) ORDER BY id"
    lines, mark["open"] = [], []
    for row in db.execute(sql, (mark["attempt"], *flying)):
        mark["attempt"] = max(mark["attempt"], row["id"])
        if row["state"] == "reserved":
            mark["open"].append(row["id"])
            continue
        usage = Counter(json.loads(row["usage"])) if row["usage"] else Counter[str]()
        micro = row["reserved"] if row["state"] == "in-doubt" else row["cost"]
        usd = "0" if row["state"] == "free" else "unknown" if micro is None else decimal(micro)
        line = io.StringIO()
        named = [row[name] for name in ("at", "session", "turn", "task")]
        counted = [usage[kind] for kind in COLUMNS.split()[7:]]
        csv.writer(line, lineterminator="").writerow(
            [*named, row["resolved"] or row["model"], row["state"], usd, *counted]
        )
        lines.append(line.getvalue())
    return lines
