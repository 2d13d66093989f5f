"""One self-contained HTML file about a run, and its curves as a picture: no script, nothing fetched, all escaped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Final

from orchestrator.settings import settings_of
from orchestrator.watch import queries, render
from orchestrator.watch.curves import COLOURS, Curve, figure
from orchestrator.watch.journal import entries, spoken
from orchestrator.watch.queries import SQL, Answer
from orchestrator.watch.text import cell, heading, moment, visible

MOST_POINTS: Final = 800  # of a curve
PANELS: Final = {
    "Cases that pass on main, %": "cases_over_time",
    "Changes": "changes_over_time",
    "USD spent": "money_over_time",
}
"""Each panel, and the query of its curves: name, whether it is dashed, hour, value."""
CONDITIONS: Final = ("condition-changed", "said", "revealed", "run-resumed", "run-paused", "gate-paused", "swept")

PAGE: Final = Path(__file__).with_name("report.html").read_text(encoding="utf-8")


def publish(folder: Path, db: sqlite3.Connection, begin: Answer) -> Answer:
    """Writes `report/index.html` and `report/curves.svg` into the run's folder; held-out results are in them."""
    status, place = queries.status(db, begin, reveal=True), folder / "report"
    took = datetime.fromisoformat(status["as_of"]) - datetime.fromisoformat(status["since"])
    panels = [(title, _curves(db.execute(SQL[query]))) for title, query in PANELS.items()]
    picture = figure([panel for panel in panels if panel[1]], took.total_seconds() / 3600)
    place.mkdir(exist_ok=True)
    (place / "curves.svg").write_text(picture, encoding="utf-8")
    (place / "index.html").write_text(_page(db, folder, status, picture), encoding="utf-8")
    files = {"file": str(place / "index.html"), "picture": str(place / "curves.svg")}
    return files | {"suites": status["suites"], "heldout": status["heldout"]}


def _curves(points: Iterable[sqlite3.Row]) -> list[Curve]:
    """One curve for each name; a suite has one colour, and its held-out cases the same, dashed."""
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for name, dashed, hour, value in points:
        found.setdefault((visible(name, 20), bool(dashed)), []).append((hour, value or 0.0))
    colours = dict(zip(dict.fromkeys(name for name, _ in found), 8 * COLOURS, strict=False))
    return [
        Curve(name + " held out" * dashed, line[:: 1 + len(line) // MOST_POINTS] + line[-1:], colours[name], dashed)
        for (name, dashed), line in sorted(found.items())
    ]


def _page(db: sqlite3.Connection, folder: Path, status: Answer, picture: str) -> str:
    heldout = status["heldout"]
    suites = [
        {"suite": name, "shown": render.share(one), "held_out": render.share(heldout[name]) if name in heldout else ""}
        for name, one in status["suites"].items()
    ]
    lock = json.loads((folder / "lock.json").read_text())
    asked = {"asked": settings_of(db).model_dump(exclude_none=True), "lock": lock}
    boxes = {
        "At the end": f"<pre>{escape(render.status(status))}</pre>",
        "Over time": picture,
        "Cases": _table(suites),
        "Who did what": _table(queries.rows(db, SQL["who_did_what"])),
        "The board": _table(queries.tasks(db)),
        "Landings and bounces": _story(db, ("landed", "bounced")),
        "Interventions and changed conditions": _story(db, CONDITIONS),
        "What was run": f"<pre>{escape(json.dumps(asked, indent=1, ensure_ascii=False))}</pre>",
    }
    body = "".join(f"<h2>{title}</h2><div>{content}</div>" for title, content in boxes.items())
    return PAGE.format(title=escape(status["run"]), body=body)


def _table(rows: Sequence[Answer]) -> str:
    """Rows under the names of their columns; numbers stand to the right."""
    heads = "".join(f"<th>{escape(heading(name))}" for name in (rows[0] if rows else ["none"]))
    cells = [
        [f"<td{' class=n' * (not isinstance(value, str))}>{escape(cell(name, value))}" for name, value in row.items()]
        for row in rows
    ]
    return f"<table><tr>{heads}{''.join('<tr>' + ''.join(row) for row in cells)}</table>"


def _story(db: sqlite3.Connection, kinds: tuple[str, ...]) -> str:
    told = (spoken(entry, moment(entry.at)) for entry in entries(db, f"kind IN {kinds}"))
    return f"<pre>{escape(chr(10).join(told) or 'none')}</pre>"
