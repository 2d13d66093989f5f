"""One self-contained HTML file about a run, and its curves as a picture: no script, nothing fetched, all escaped. The
curves are SVG by our own few lines."""

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Final

from orchestrator.control import usable
from orchestrator.settings import settings_of
from orchestrator.watch import queries, render
from orchestrator.watch.journal import entries, spoken
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import Answer, cell, heading, moment, visible

Curves = Mapping[tuple[str, bool], Sequence[tuple[float, float]]]
"""By name and whether it is dashed, points (hours, value): a value holds until the next point."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 230, 58, 160, 34, 34
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
COLOURS: Final = ("#2563eb", "#d97706", "#15803d", "#b91c1c", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
MOST_POINTS: Final = 800  # of a curve
PANELS: Final = {
    "Cases that pass on main, %": "cases_over_time",
    "Changes": "changes_over_time",
    "USD spent": "money_over_time",
}
"""Each panel, and the query of its curves: name, whether it is dashed, hour, value."""
CONDITIONS: Final = (
    "condition-changed",
    "said",
    "revealed",
    "waived",
    "quarantined",
    "excuse-ended",
    "run-resumed",
    "run-paused",
    "gate-paused",
    "swept",
)

PAGE: Final = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
PICTURE: Final = Path(__file__).with_name("curves.svg").read_text(encoding="utf-8")


def publish(folder: Path, db: sqlite3.Connection, begin: Answer) -> Answer:
    """Writes `report/index.html` and `report/curves.svg` into the run's folder; held-out results are in them."""
    status, place = begin | queries.status(db, begin, reveal=True), folder / "report"
    took = datetime.fromisoformat(status["as_of"]) - datetime.fromisoformat(status["since"])
    picture = _picture(db, max(took.total_seconds() / 3600, 1e-3))
    place.mkdir(exist_ok=True)
    (place / "curves.svg").write_text(picture, encoding="utf-8")
    (place / "index.html").write_text(_page(db, folder, status, picture), encoding="utf-8")
    files = {"file": str(place / "index.html"), "picture": str(place / "curves.svg")}
    return files | {"suites": status["suites"], "heldout": status["heldout"]}


def _page(db: sqlite3.Connection, folder: Path, status: Answer, picture: str) -> str:
    heldout = status["heldout"]
    suites = [
        {"suite": name, "shown": render.share(one), "held_out": render.share(heldout[name]) if name in heldout else ""}
        for name, one in status["suites"].items()
    ]
    with usable(folder / "lock.json") as file:
        lock = json.loads(file.read_text())
    asked = {"asked": settings_of(db).model_dump(exclude_none=True), "lock": lock}
    boxes = {
        "At the end": f"<pre>{escape(render.status(status))}</pre>",
        "Over time": picture,
        "Cases": _table(suites),
        "Cases that main may lose": _table(queries.rows(db, SQL["excuses"])),
        "Who did what": _table(queries.rows(db, SQL["who_did_what"])),
        "The board": _table(queries.rows(db, SQL["tasks"], show="all")),
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


def _picture(db: sqlite3.Connection, hours: float) -> str:
    """A panel for each query that finds curves, under each other over one axis, as one SVG that needs nothing else."""
    found = {title: _curves(db.execute(SQL[query])) for title, query in PANELS.items()}
    panels = [_panel(title, curves, hours) for title, curves in found.items() if curves]
    placed = (f"<g transform='translate(0,{i * HEIGHT})'>{panel}</g>" for i, panel in enumerate(panels))
    return PICTURE.format(width=WIDTH, height=HEIGHT * len(panels), panels="".join(placed))


def _curves(points: Iterable[sqlite3.Row]) -> Curves:
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for name, dashed, hour, value in points:
        found.setdefault((visible(name, 20), bool(dashed)), []).append((hour, value or 0.0))
    return {key: line[:: 1 + len(line) // MOST_POINTS] + line[-1:] for key, line in found.items()}


def _panel(title: str, curves: Curves, hours: float) -> str:
    """The curves over their grid; beside it the name and the last value of each, the highest first. A suite has one
    colour, and its held-out cases the same, dashed."""
    colours = dict(zip(dict.fromkeys(name for name, _ in curves), 8 * COLOURS, strict=False))
    heights = _ticks(max(value for line in curves.values() for _, value in line) or 1)

    def x(hour: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(hour, hours) / hours, 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / heights[-1]), 1)

    parts = [_text(LEFT, 18, title, INK, "start")]
    for tick in heights:
        parts.append(f"<path d='M{LEFT} {y(tick)}H{WIDTH - RIGHT}' stroke='{GRID}'/>")
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{tick:,g}", FAINT, "end"))
    for tick in _ticks(hours)[:-1]:
        parts.append(_text(x(tick), HEIGHT - 14, f"{tick:g} h", FAINT, "middle"))
    for place, ((name, dashed), line) in enumerate(sorted(curves.items(), key=lambda curve: -curve[1][-1][1])):
        path = f"M{LEFT} {y(0)}" + "".join(f"H{x(hour)}V{y(value)}" for hour, value in line) + f"H{x(hours)}"
        dash = " stroke-dasharray='6 4'" * dashed
        parts.append(f"<path d='{path}' fill='none' stroke='{colours[name]}' stroke-width='2'{dash}/>")
        words = f"{name}{' held out' * dashed} {round(line[-1][1], 2):,g}"
        parts.append(_text(WIDTH - RIGHT + 8, TOP + 4 + 15 * place, words, colours[name], "start"))
    return "".join(parts)


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f"<text x='{x}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"


def _ticks(top: float) -> list[float]:
    """Zero and up to five round steps, the last at or just over `top`."""
    scale = 10.0 ** math.floor(math.log10(top / 5))
    step = next(size * scale for size in (1, 2, 2.5, 5, 10) if 5 * size * scale >= top)
    return [round(step * number, 10) for number in range(math.ceil(top / step - 1e-9) + 1)]
