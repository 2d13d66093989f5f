"""The journal as people read it: its entries, one line of words for each, and following it while it grows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from orchestrator.store import reading
from orchestrator.store.store import iso, when
from orchestrator.watch.text import money, percent, plural, some, visible

GATE: Final = frozenset({"judging", "judged", "voided", "gate-paused", "landed", "bounced", "heldout-judged"})
DETAIL: Final = frozenset(
    """call verified session-started session-ended session-continued noted task-added task-closed judging judged
    submitted claimed released landing tasks-ordered waiting attempt-failed said heldout-judged""".split()  # noqa: SIM905 - a list of words reads best as words
)
"""Kinds that are not news for a person who looks at the whole run."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal; `seat` is "" for what concerns the whole run."""

    seq: int
    at: datetime
    epoch: int
    kind: str
    seat: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """An entry in words. `text` is safe to show; `news` marks what is worth telling a person."""

    seq: int
    at: datetime
    kind: str
    word: str
    seat: str
    text: str
    news: bool


def entries(
    db: sqlite3.Connection,
    *,
    after: int = 0,
    kinds: Iterable[str] = (),
    seat: str = "",
    since: datetime | None = None,
    last: int = 0,
) -> list[Entry]:
    """Entries in order, after a sequence number; `last` keeps only so many of the newest."""
    wanted = tuple(kinds)
    where, values = ["seq > ?"], [after, *wanted]
    if wanted:
        where.append(f"kind IN ({', '.join('?' * len(wanted))})")
    for clause, value in (("seat = ?", seat), ("at >= ?", iso(since) if since else "")):
        if value:
            where.append(clause)
            values.append(value)
    tail = f" DESC LIMIT {last}" if last else ""
    rows = db.execute(f"SELECT * FROM journal WHERE {' AND '.join(where)} ORDER BY seq{tail}", values).fetchall()
    made = [
        Entry(row["seq"], when(row["at"]), row["epoch"], row["kind"], row["seat"], json.loads(row["data"]))
        for row in rows
    ]
    return sorted(made, key=lambda entry: entry.seq)


OWN_ENTRY: Final = frozenset({"claim", "verify", "submit", "release", "note"})
WORDS: Final[dict[str, tuple[str, str]]] = {
    "run-started": ("started", "{name}: {agents} seats for {project}, by {by}"),
    "run-resumed": ("resumed", "by {by}"),
    "run-paused": ("paused", "by {by}"),
    "run-draining": ("draining", "{reason}, by {by}"),
    "run-stopped": ("stopped", "{reason}"),
    "run-ended": ("ended", "{reason}"),
    "condition-changed": ("changed", "{what}: {old} → {new}, by {by}"),
    "revealed": ("revealed", "held-out results, by {by}"),
    "task-added": ("task", "{task} {title}, from {source}"),
    "task-closed": ("closed", "{task} {@task}: {reason}"),
    "task-dropped": ("dropped", "{task} {@task}: {reason}, by {by}"),
    "task-reopened": ("reopened", "{task} {@task}: {reason}"),
    "claimed": ("claim", "{task} {@task}"),
    "released": ("release", "{task} {@task}: {reason}"),
    "session-started": ("session", "{session} begins: {role}, {model}"),
    "session-ended": ("session", "{session} ends: {end}, {turns} turns. {note}"),
    "session-continued": ("session", "{session} goes on: {doing}"),
    "call": ("{name}", "{brief} · {seconds} s{failed}"),
    "verified": ("verify", "{what} {passed}/{total} · {seconds} s"),
    "noted": ("note", "{topic}: {text}"),
    "said": ("said", "to {to}, by {by}: {text}"),
    "submitted": ("submit", "{change} for {task} {@task}: +{added} -{removed}, fixes {fixes}"),
    "judging": ("judging", "{changes} on main {main}, {tier} tier"),
    "judged": ("judged", "{changes}: {passed}/{total} pass in {seconds} s, {lost} lost, {gained} gained"),
    "voided": ("void", "{changes}: {reason}"),
    "gate-paused": ("gate", "paused: {reason}"),
    "landing": ("landing", "{change} as {new}"),
    "landed": ("landed", "{change} {@task} · {@progress}"),
    "bounced": ("bounced", "{change} {reason} (why {change})"),
    "withdrawn": ("withdrawn", "{change}: {reason}"),
    "heldout-judged": ("held-out", "judged for {commit}"),
    "waiting": ("waits", "{@wait}"),
    "spent": ("spent", "{@spent}"),
    "tasks-ordered": ("ordered", "{tasks} tasks, by {by}"),
    "attempt-failed": ("retry", "{session} turn {turn}: {failure}, again in {wait_s} s"),
    "seat-idle": ("idle", "{reason}"),
    "seat-crashed": ("crashed", "{error}; again in {wait_s} s"),
    "room-lost": ("room", "{session} lost its room: {reason}"),
    "swept": ("swept", "{count} rooms of a dead process"),
}


class Narrator:
    """Puts entries into words, with titles and progress looked up in the state they come from."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def tell(self, found: Iterable[Entry]) -> Iterator[tuple[Entry, Line]]:
        """Lines for entries; a call whose verb has an entry of its own is not told twice."""
        for entry in found:
            if entry.kind != "call" or entry.data["failed"] or entry.data["name"] not in OWN_ENTRY:
                yield entry, self.line(entry)

    def line(self, entry: Entry) -> Line:
        word, template = WORDS.get(entry.kind, (entry.kind, ""))
        shown = _Shown(self, entry)
        text = template.format_map(shown).strip(" .:·")
        spoken = word.format_map(shown)
        return Line(entry.seq, entry.at, entry.kind, spoken, visible(entry.seat), text, entry.kind not in DETAIL)

    def title(self, task: object) -> str:
        row = self._db.execute("SELECT title FROM task WHERE id = ?", (str(task),)).fetchone()
        return visible(row["title"], 80) if row else ""

    def progress(self, change: object) -> str:
        """What a landing did to each suite it moved: `torture 402 → 450 of 3843`."""
        after = self._counts("JOIN landing l ON l.scorecard = s.id WHERE l.change = ?", change)
        if after is None:
            return ""
        before = self._counts("JOIN landing l ON l.old = s.commit_id WHERE l.change = ?", change) or {}
        moved = [
            f"{visible(suite)} {before.get(suite, [0])[0]} → {passed} of {total}"
            for suite, (passed, total) in after.items()
            if before.get(suite, [0])[0] != passed
        ]
        return ", ".join(moved) or "no case newly passes"

    def _counts(self, where: str, change: object) -> dict[str, tuple[int, int]] | None:
        sql = f"SELECT s.counts FROM scorecard s {where} AND s.tier = 'full' ORDER BY s.id DESC"
        row = self._db.execute(sql, (str(change),)).fetchone()
        return json.loads(row["counts"]) if row else None


class _Shown(dict[str, str]):
    """The fields of an entry as words. `{@task}` and the like are looked up."""

    def __init__(self, narrator: Narrator, entry: Entry) -> None:
        super().__init__()
        self._narrator, self._entry = narrator, entry

    def __missing__(self, key: str) -> str:
        data = self._entry.data
        if key == "@task":
            return self._narrator.title(data.get("task"))
        if key == "@progress":
            return self._narrator.progress(data.get("change"))
        if key == "@wait":
            seconds = f", {data['until']:.0f} s" if data.get("until") else ""
            return visible(data["why"]) + seconds if data.get("why") else "no longer"
        if key == "@spent":
            return f"{percent(data.get('share') or 0, 1)} of the budget, {money(data.get('micro'))}"
        value = data.get(key, "")
        if key == "failed":
            return " · failed" if value else ""
        if key == "fixes" and isinstance(value, list):
            return plural(len(value), "case") + (f", first {visible(value[0])}" if value else "")
        if isinstance(value, list):
            return (some(value) if key == "changes" else str(len(value))) if value else "none"
        if key in ("commit", "new", "main") and self._entry.kind != "condition-changed":
            return visible(value)[:7]
        return f"{value:.0f}" if isinstance(value, float) else visible("nothing" if value is None else value)


async def follow(
    state: Path, after: int, alive: Callable[[], bool], poll_s: float = 0.5
) -> AsyncIterator[tuple[Entry, Line]]:
    """Yields entries as they are stored, and ends when the run's process is gone and all has been told."""

    def news() -> list[tuple[Entry, Line]]:
        with reading(state) as db:
            return list(Narrator(db).tell(entries(db, after=after)))

    while True:
        last_look = not alive()
        for entry, line in await anyio.to_thread.run_sync(news):
            after = entry.seq
            yield entry, line
        if last_look:
            return
        await anyio.sleep(poll_s)


def since(text: str, now: datetime) -> datetime:
    """`10m`, `2h`, `90s` or `1d` before now. Raises `ValueError`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if len(text) < 2 or text[-1] not in units or not text[:-1].isdecimal():
        raise ValueError(f"{text!r} is not a length of time like 90s, 10m, 2h or 1d")
    return now - timedelta(seconds=int(text[:-1]) * units[text[-1]])


def spoken(line: Line, stamp: str, *, with_seat: bool = True) -> str:
    """A line as it is printed: when, what, who, and the words."""
    seat = f"{line.seat:<9} " if with_seat else ""
    return f"{stamp}  {line.word:<9} {seat}{line.text}".rstrip()
