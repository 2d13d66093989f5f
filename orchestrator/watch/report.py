"""One self-contained HTML file about a run, and its curves as a picture: no script, nothing fetched, all escaped."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from orchestrator.project.loading import load
from orchestrator.project.problems import ProjectError
from orchestrator.project.project import Milestone
from orchestrator.store import changes, reading
from orchestrator.store.attempts import By
from orchestrator.store.store import when
from orchestrator.watch import queries
from orchestrator.watch.cost import cost
from orchestrator.watch.credit import Earned, credit
from orchestrator.watch.curves import COLOURS, FAINT, Curve, Panel, figure
from orchestrator.watch.journal import Narrator, entries, spoken
from orchestrator.watch.text import hours, moment, money, percent, plural, visible
from verifiers.scorecard import Scorecard


@dataclass(frozen=True)
class Gap:
    suite: str
    shown: queries.Passing
    heldout: queries.Passing


@dataclass(frozen=True)
class Report:
    """What was published. `milestones` is empty when the run's frozen project cannot be read."""

    run: str
    as_of: datetime
    file: str
    picture: str
    credit: float | None
    milestones: tuple[Earned, ...]
    gaps: tuple[Gap, ...]
    interventions: int
    attempts: int  # runs here of the same project lock and models, this one included


def publish(folder: Path, others: Sequence[Path], *, alive: bool, now: datetime) -> Report:
    """Writes `report/index.html` and `report/curves.svg` into the run's folder."""
    place = folder / "report"
    with reading(folder / "state.db") as db:
        status = queries.status(db, alive, now, reveal=True)
        shown, hidden = status.suites, status.heldout or {}
        earned = credit(_milestones(folder), *_final_cards(db))
        report = Report(
            run=status.run,
            as_of=status.as_of,
            file=str(place / "index.html"),
            picture=str(place / "curves.svg"),
            credit=sum(one.credit for one in earned) if earned else None,
            milestones=earned,
            gaps=tuple(Gap(name, shown[name], hid) for name, hid in hidden.items() if name in shown),
            interventions=len(entries(db, kinds=["said"])),
            attempts=1 + sum(_same_conditions(db, other) for other in others),
        )
        picture = figure(_panels(db, status), (status.as_of - status.since).total_seconds() / 3600)
        page = _page(db, folder, status, report, picture)
    place.mkdir(exist_ok=True)
    Path(report.picture).write_text(picture, encoding="utf-8")
    Path(report.file).write_text(page, encoding="utf-8")
    return report


def _milestones(folder: Path) -> tuple[Milestone, ...]:
    try:
        return load(folder / "frozen" / "project").milestones
    except ProjectError:
        return ()


def _final_cards(db: sqlite3.Connection) -> tuple[Scorecard | None, Scorecard | None]:
    """Main's last scorecard, and the newest one of held-out cases."""
    sql = "SELECT s.* FROM scorecard s JOIN landing l ON l.scorecard = s.id WHERE l.done ORDER BY l.number DESC"
    shown = db.execute(sql).fetchone()
    hidden = db.execute("SELECT * FROM scorecard WHERE tier = 'heldout' AND void = '' ORDER BY id DESC").fetchone()
    return (changes.read_scorecard(db, shown) if shown else None), (
        changes.read_scorecard(db, hidden) if hidden else None
    )


def _same_conditions(db: sqlite3.Connection, other: Path) -> bool:
    """Whether another run began with the same project lock and the same models."""
    with reading(other / "state.db") as theirs:
        pair = [entries(one, kinds=["run-started"]) for one in (db, theirs)]
    return all(pair) and all(pair[0][0].data[key] == pair[1][0].data[key] for key in ("lock", "models"))


def _panels(db: sqlite3.Connection, status: queries.Status) -> list[Panel]:
    began = status.since

    def hour(at: str) -> float:
        return (when(at) - began).total_seconds() / 3600

    cases: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    sql = "SELECT at, tier, counts FROM scorecard WHERE commit_id <> '' AND tier IN ('full', 'heldout') ORDER BY id"
    for row in db.execute(sql):
        for suite, (passed, total) in json.loads(row["counts"]).items():
            points = cases.setdefault((suite, row["tier"] == "heldout"), [(0.0, 0.0)])
            points.append((hour(row["at"]), 100 * passed / total if total else 0.0))
    suites = sorted({suite for suite, _ in cases})
    colour = {suite: COLOURS[number % len(COLOURS)] for number, suite in enumerate(suites)}
    passing = [
        Curve(visible(suite, 30) + " held out" * hid, points, colour[suite], hid)
        for (suite, hid), points in sorted(cases.items())
    ]
    ends = [Curve(kind, _count(db, kind, began), COLOURS[n]) for n, kind in ((2, "landed"), (3, "bounced"))]
    if not status.spending.metered:
        last = Panel("Sessions at work (unmetered)", [Curve("sessions", _at_work(db, status), FAINT)], height=170)
    else:
        micro, points = 0, [(0.0, 0.0)]
        for row in db.execute(f"SELECT at, {queries.PRICE} AS micro FROM attempt ORDER BY at"):
            micro += row["micro"] or 0
            points.append((hour(row["at"]), micro / 1e6))
        thin = points[:: 1 + len(points) // 800] + points[-1:]
        last = Panel("USD spent", [Curve("$", thin, COLOURS[4])], height=170)
    return [Panel("Cases that pass on main", passing, 100, " %", 300), Panel("Changes", ends, height=190), last]


def _count(db: sqlite3.Connection, kind: str, began: datetime) -> list[tuple[float, float]]:
    found = enumerate(entries(db, kinds=[kind]), start=1)
    return [(0.0, 0.0), *(((entry.at - began).total_seconds() / 3600, float(number)) for number, entry in found)]


def _at_work(db: sqlite3.Connection, status: queries.Status) -> list[tuple[float, float]]:
    """How many sessions were open at each moment."""
    turns = []
    for row in db.execute("SELECT started, ended FROM session"):
        turns += [(when(row["started"]), 1), (when(row["ended"]) if row["ended"] else status.as_of, -1)]
    points, level = [(0.0, 0.0)], 0
    for at, step in sorted(turns):
        level += step
        points.append(((at - status.since).total_seconds() / 3600, float(level)))
    return points


def _who(db: sqlite3.Connection, now: datetime) -> list[list[str]]:
    """What each seat did; `gained` are the cases that newly passed with its landings."""
    money_of = {row.key: row.spent_usd for row in cost(db, False, now, By.SEAT).rows}
    gained = Counter[str]()
    for entry in entries(db, kinds=["landed"]):
        gained[entry.seat] += int(entry.data["gained"] or 0)
    changed = "(SELECT count(*) FROM change WHERE seat = s.seat AND state = '{}')"
    counted = f"count(*), sum(turns), {changed.format('landed')}, {changed.format('bounced')}"
    sql = f"SELECT seat, max(role), max(model), {counted} FROM session s GROUP BY seat ORDER BY seat"
    rows = []
    for row in db.execute(sql):
        micro = money_of.get(row["seat"])
        rows.append([*map(str, row), str(gained[row["seat"]]), "unmetered" if micro is None else money(micro)])
    return rows


def words(result: Report) -> str:
    lines = [f"{result.file}, one file; the curves alone: {result.picture}"]
    if result.credit is not None:
        by = "held-out cases" if any(one.heldout for one in result.milestones) else "shown cases"
        each = " · ".join(f"{visible(one.name)} {one.credit:.1f}/{one.of:g}" for one in result.milestones)
        lines.append(
            f"  credit     {result.credit:.1f} of {sum(one.of for one in result.milestones):g}, from {by}: {each}"
        )
    for gap in result.gaps:
        shown, hidden = (percent(one.passed, one.total) for one in (gap.shown, gap.heldout))
        lines.append(f"  gap        {gap.suite} {shown} shown, {hidden} held out")
    counts = f"{plural(result.interventions, 'intervention')}, {plural(result.attempts, 'attempt')}"
    lines.append(f"  conditions {counts} here of this lock and these models")
    return "\n".join(lines)


HEAD: Final = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<meta http-equiv=Content-Security-Policy content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>"""
STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:#1f2937;background:#f8fafc;margin:0}
main{max-width:960px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;margin:0}h2{font-size:18px;margin:36px 0 10px}
.sub{color:#6b7280;margin:4px 0 20px}.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{background:#fff;border:1px solid #e5e7eb;border-radius:8px;padding:12px 16px;min-width:130px;flex:1}
.card b{display:block;font-size:22px}.card span{color:#6b7280;font-size:13px}
.box{background:#fff;border:1px solid #e5e7eb;border-radius:8px;padding:12px 16px;overflow-x:auto}
svg{max-width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;color:#6b7280;font-weight:600;border-bottom:1px solid #e5e7eb}
td,th{padding:4px 14px 4px 0;vertical-align:top}
tr+tr td{border-top:1px solid #f1f5f9}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{background:#e5e7eb;border-radius:4px;height:8px;min-width:120px;margin-top:7px}
.bar i{display:block;height:8px;border-radius:4px;background:#2563eb}
pre{font:12.5px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
"""


def _page(db: sqlite3.Connection, folder: Path, status: queries.Status, report: Report, picture: str) -> str:
    settings, earned = queries.settings_of(db), report.milestones
    passed, whole = (sum(getattr(one, name) for one in status.suites.values()) for name in ("passed", "total"))
    cards = [
        (
            "unknown" if report.credit is None else f"{report.credit:.1f}",
            f"credit of {sum(one.of for one in earned):g}",
        ),
        (f"{passed:,} of {whole:,}", "shown cases pass"),
        (f"{status.queue.landed}", f"changes landed, {status.queue.bounced} bounced"),
        (money(status.spent_usd) if status.spending.metered else "unmetered", "spent"),
        (hours(status.elapsed_s), "hours:minutes of work"),
    ]
    lock = folder / "lock.json"
    facts: dict[str, Any] = {"asked": settings.model_dump(exclude_none=True), "interventions": report.interventions}
    facts["attempts of this lock and these models"] = report.attempts
    facts["lock"] = json.loads(lock.read_text()) if lock.exists() else "no lock.json in the run's folder"
    told = ("condition-changed", "said", "revealed", "run-resumed", "run-paused", "gate-paused", "swept")
    board = [
        [row.id, row.state, row.title, str(row.cases), str(row.bounces or ""), row.reason or row.seat]
        for row in queries.tasks(db)
    ]
    gaps = [[gap.suite, _share(gap.shown), _share(gap.heldout)] for gap in report.gaps]
    seat_heads = ["seat", "role", "model", "#sessions", "#turns", "#landed", "#bounced", "#cases gained", "#cost"]
    boxes = {
        "Over time": picture,
        "Credit": _credit(earned) if earned else "",
        "Shown and held out": _table(["suite", "#shown", "#held out"], gaps) if gaps else "",
        "Who did what": _table(seat_heads, _who(db, status.as_of)),
        "The board": _table(["task", "state", "title", "#cases", "#bounced", "end"], board),
        "Landings and bounces": _story(db, ("landed", "bounced")),
        "Changed conditions": _story(db, told),
        "What was run": _table(["", ""], list(_flat(facts))),
    }
    shown = "".join(f"<h2>{title}</h2><div class=box>{body}</div>" for title, body in boxes.items() if body)
    tops = "".join(f"<div class=card><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in cards)
    end = f"{status.state}: {status.reason or 'no end yet'} · {settings.agents} seats · began {moment(status.since)}"
    body = f"<h1>{escape(status.run)}</h1><p class=sub>{escape(end)}</p><div class=cards>{tops}</div>{shown}"
    return f"{HEAD.format(title=escape(status.run))}<style>{STYLE}</style><main>{body}</main></html>\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts, escaped here; a column whose head begins with # holds numbers."""
    marks = [" class=n" if head.startswith("#") else "" for head in heads]
    top = "".join(f"<th{mark}>{escape(head.lstrip('#'))}</th>" for head, mark in zip(heads, marks, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark}>{escape(visible(cell))}</td>" for cell, mark in zip(row, marks, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body or '<tr><td>none</td></tr>'}</table>"


def _credit(earned: Sequence[Earned]) -> str:
    rows = []
    for one in earned:
        bar = f"<div class=bar><i style='width:{100 * one.credit / one.of:.1f}%'></i></div>"
        by = "held-out cases" if one.heldout else "shown cases"
        figures = f"<td class=n>{one.credit:.1f} of {one.of:g}</td><td>{by}</td>"
        rows.append(f"<tr><td>{escape(visible(one.name))}</td><td>{bar}</td>{figures}</tr>")
    return f"<table><tr><th>milestone<th><th class=n>credit<th>decided by</tr>{''.join(rows)}</table>"


def _share(suite: queries.Passing) -> str:
    return f"{suite.passed}/{suite.total} ({percent(suite.passed, suite.total)})"


def _story(db: sqlite3.Connection, kinds: tuple[str, ...]) -> str:
    lines = [spoken(line, moment(entry.at)) for entry, line in Narrator(db).tell(entries(db, kinds=kinds))]
    return f"<pre>{escape(chr(10).join(lines) or 'none')}</pre>"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A tree of facts as rows of dotted name and value."""
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{name}.{key}".strip("."))]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    return [(name, str(value))]
