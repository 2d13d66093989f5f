"""Log files for people, written after the fact: they follow the state, and can be made again from it at any time.

progress.log  gate.log  agents/agent-07.log    lines of the journal, as `logs` prints them
cost.csv                                       one line a request, in order, as far as all are settled or in doubt
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from orchestrator.store import reading
from orchestrator.watch.journal import GATE, NEWS, entries, spoken
from orchestrator.watch.queries import SQL

INTERVAL_S: Final = 1.0


class Scribe:
    """Writes one run's log files. `catch_up` may be called at any time, from one place at a time; `keep` repeats it.

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
        file, mode = self._folder / name, "a"
        file.parent.mkdir(exist_ok=True)
        if name not in self._begun and file.exists():
            old = file.read_text(encoding="utf-8", errors="replace")
            mode, text = ("a", text.removeprefix(old)) if text.startswith(old) else ("w", text)
        self._begun.add(name)
        with file.open(mode, encoding="utf-8") as log:
            log.write(text)
