"""One self-contained HTML file about a run, and its curves as a picture: no script, nothing fetched, every word escaped."""

from __future__ import annotations

import json
import sqlite3
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
from orchestrator.store.store import when
from orchestrator.watch import queries
from orchestrator.watch.cost import CostRow, cost
from orchestrator.watch.credit import Earned, credit
from orchestrator.watch.curves import COLOURS, FAINT, Curve, Panel, figure
from orchestrator.watch.journal import Entry, Narrator, entries, spoken
from orchestrator.watch.text import clock, day, hours, money, percent, plural, visible
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
    bytes: int
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
        began = status.since
        panels = _panels(db, began, status)
        picture = figure(panels, (status.as_of - began).total_seconds() / 3600)
        earned = credit(_milestones(folder), *_final_cards(db))
        attempts = 1 + sum(_same_conditions(db, other) for other in others)
        said = entries(db, kinds=["said"])
        gaps = [
            Gap(name, status.suites[name], hid) for name, hid in (status.heldout or {}).items() if name in status.suites
        ]
        page = _page(db, folder, status, earned, gaps, picture, attempts, len(said))
    place.mkdir(exist_ok=True)
    (place / "curves.svg").write_text(picture, encoding="utf-8")
    (place / "index.html").write_text(page, encoding="utf-8")
    total = sum(one.credit for one in earned) if earned else None
    return Report(
        status.run,
        status.as_of,
        str(place / "index.html"),
        str(place / "curves.svg"),
        len(page.encode()),
        total,
        earned,
        tuple(gaps),
        len(said),
        attempts,
    )


def _milestones(folder: Path) -> tuple[Milestone, ...]:
    try:
        return load(folder / "project").milestones
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


def _panels(db: sqlite3.Connection, began: datetime, status: queries.Status) -> list[Panel]:
    def hour(at: str) -> float:
        return (when(at) - began).total_seconds() / 3600

    cases: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    sql = "SELECT at, tier, counts FROM scorecard WHERE commit_id <> '' AND void = '' AND tier IN ('full', 'heldout') ORDER BY id"
    for row in db.execute(sql):
        for suite, (passed, total) in json.loads(row["counts"]).items():
            points = cases.setdefault((suite, row["tier"] == "heldout"), [(0.0, 0.0)])
            points.append((hour(row["at"]), 100 * passed / total if total else 0.0))
    suites = sorted({suite for suite, _ in cases})
    curves = [
        Curve(
            visible(suite, 30) + (" held out" if hid else ""), points, COLOURS[suites.index(suite) % len(COLOURS)], hid
        )
        for (suite, hid), points in sorted(cases.items())
    ]
    ended = {"landed": COLOURS[2], "bounced": COLOURS[3]}
    counted = [
        Curve(kind, _count([hour(e.at.isoformat()) for e in entries(db, kinds=[kind])]), c) for kind, c in ended.items()
    ]
    panels = [Panel("Cases that pass on main", curves, 100, " %", 300), Panel("Changes", counted, height=190)]
    if status.spending.metered:
        spent, points = 0.0, [(0.0, 0.0)]
        for row in db.execute("SELECT at, state, cost, reserved FROM attempt ORDER BY at"):
            spent += (
                (row["cost"] or 0)
                if row["state"] == "settled"
                else (row["reserved"] or 0) * (row["state"] == "in-doubt")
            )
            points.append((hour(row["at"]), spent / 1e6))
        panels.append(
            Panel(
                "USD spent", [Curve("$", points[:: max(1, len(points) // 800)] + points[-1:], COLOURS[4])], height=170
            )
        )
    else:
        panels.append(
            Panel(
                "Sessions at work (unmetered)",
                [Curve("sessions", _at_work(db, began, status.as_of), FAINT)],
                height=170,
            )
        )
    return panels


def _count(moments: Sequence[float]) -> list[tuple[float, float]]:
    return [(0.0, 0.0), *((moment, float(number)) for number, moment in enumerate(moments, start=1))]


def _at_work(db: sqlite3.Connection, began: datetime, end: datetime) -> list[tuple[float, float]]:
    """How many sessions were open at each moment."""
    turns = []
    for row in db.execute("SELECT started, ended FROM session"):
        turns += [(when(row["started"]), 1), (when(row["ended"]) if row["ended"] else end, -1)]
    points, level = [(0.0, 0.0)], 0
    for at, step in sorted(turns):
        level += step
        points.append(((at - began).total_seconds() / 3600, float(level)))
    return points


@dataclass(frozen=True)
class _SeatRow:
    seat: str
    role: str
    model: str
    sessions: int
    turns: int
    landed: int
    bounced: int
    gained: int
    cost: CostRow | None


def _who(db: sqlite3.Connection, now: datetime) -> list[_SeatRow]:
    """What each seat did; `gained` counts the cases that newly passed with its landings."""
    money_of = {row.key: row for row in cost(db, False, now, "seat").rows}
    gained: dict[str, int] = {}
    for entry in entries(db, kinds=["landed"]):
        gained[entry.seat] = gained.get(entry.seat, 0) + int(entry.data["gained"] or 0)
    sql = (
        "SELECT seat, max(role) AS role, max(model) AS model, count(*) AS sessions, sum(turns) AS turns,"
        " (SELECT count(*) FROM change WHERE seat = s.seat AND state = 'landed') AS landed,"
        " (SELECT count(*) FROM change WHERE seat = s.seat AND state = 'bounced') AS bounced"
        " FROM session s GROUP BY seat ORDER BY seat"
    )
    return [
        _SeatRow(**dict(row), gained=gained.get(row["seat"], 0), cost=money_of.get(row["seat"]))
        for row in db.execute(sql)
    ]


def words(result: Report) -> str:
    lines = [f"{result.file} ({result.bytes / 1024:.0f} KB, one file); curves alone: {result.picture}"]
    if result.credit is not None:
        by = "held-out cases" if any(one.heldout for one in result.milestones) else "shown cases"
        each = " · ".join(f"{visible(one.name)} {one.credit:.1f}/{one.of:g}" for one in result.milestones)
        lines.append(
            f"  credit     {result.credit:.1f} of {sum(one.of for one in result.milestones):g}, from {by}: {each}"
        )
    for gap in result.gaps:
        shown, hidden = (percent(one.passed, one.total) for one in (gap.shown, gap.heldout))
        lines.append(f"  gap        {gap.suite} {shown} shown, {hidden} held out")
    lines.append(
        f"  conditions {plural(result.interventions, 'intervention')}, {plural(result.attempts, 'attempt')} here of this lock and these models"
    )
    return "\n".join(lines)


STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:#1f2937;background:#f8fafc;margin:0}
main{max-width:960px;margin:0 auto;padding:32px 24px 64px}h1{font-size:28px;margin:0}h2{font-size:18px;margin:36px 0 10px}
.sub{color:#6b7280;margin:4px 0 20px}.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{background:#fff;border:1px solid #e5e7eb;border-radius:8px;padding:12px 16px;min-width:130px;flex:1}
.card b{display:block;font-size:22px}.card span{color:#6b7280;font-size:13px}
.box{background:#fff;border:1px solid #e5e7eb;border-radius:8px;padding:12px 16px;overflow-x:auto}
svg{max-width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;color:#6b7280;font-weight:600;border-bottom:1px solid #e5e7eb}td,th{padding:4px 14px 4px 0;vertical-align:top}
tr+tr td{border-top:1px solid #f1f5f9}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{background:#e5e7eb;border-radius:4px;height:8px;min-width:120px;margin-top:7px}.bar i{display:block;height:8px;border-radius:4px;background:#2563eb}
pre{font:12.5px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
"""


def _page(
    db: sqlite3.Connection,
    folder: Path,
    status: queries.Status,
    earned: Sequence[Earned],
    gaps: Sequence[Gap],
    picture: str,
    attempts: int,
    interventions: int,
) -> str:
    settings, board = queries.settings_of(db), queries.tasks(db)
    total = sum(one.credit for one in earned)
    passed, whole = (sum(getattr(one, name) for one in status.suites.values()) for name in ("passed", "total"))
    cards = [
        (
            f"{total:.1f}" if earned else "unknown",
            f"credit of {sum(one.of for one in earned):g}" if earned else "credit",
        ),
        (f"{passed:,} of {whole:,}", "shown cases pass"),
        (f"{status.queue.landed}", f"changes landed, {status.queue.bounced} bounced"),
        (money(status.spent_usd) if status.spending.metered else "unmetered", "spent"),
        (hours(status.elapsed_s), "hours:minutes of work"),
    ]
    facts: dict[str, Any] = {
        "models": settings.models,
        "seats": settings.agents,
        "sandbox": settings.sandbox or "the machine's default",
    }
    facts |= {
        "interventions": interventions,
        "attempts of this lock and these models": attempts,
        "unlocked": settings.unlocked,
    }
    lock = folder / "lock.json"
    facts |= json.loads(lock.read_text()) if lock.exists() else {"lock": "no lock.json in the run's folder"}
    changed = entries(
        db, kinds=["condition-changed", "said", "revealed", "run-resumed", "run-paused", "gate-paused", "swept"]
    )
    sections = [
        _cards(cards),
        _section("Over time", f"<div class=box>{picture}</div>"),
        _section("Credit", _credit(earned)) if earned else "",
        _section("Shown and held out", _table(["suite", "#shown", "#held out"], [_gap(gap) for gap in gaps]))
        if gaps
        else "",
        _section("Who did what", _seats(_who(db, status.as_of))),
        _section(
            "The board", _table(["task", "state", "title", "#cases", "#bounced", "end"], [_task(row) for row in board])
        ),
        _section("Landings and bounces", _story(db, entries(db, kinds=["landed", "bounced"]))),
        _section("Changed conditions", _story(db, changed)),
        _section("What was run", _table(["", ""], list(_flat(facts)))),
    ]
    title = escape(f"{status.run}: {visible(settings.project)}")
    sub = escape(
        f"{status.state}: {status.reason or 'no end yet'} · {settings.agents} seats · began {day(status.since)} {clock(status.since)}"
    )
    head = f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    body = f"<h1>{escape(status.run)}</h1><p class=sub>{sub}</p>{''.join(sections)}"
    return f"{head}{policy}<style>{STYLE}</style><main>{body}</main></html>\n"


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}"


def _cards(cards: Sequence[tuple[str, str]]) -> str:
    return (
        "<div class=cards>"
        + "".join(f"<div class=card><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in cards)
        + "</div>"
    )


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
    return f"<div class=box><table><tr>{top}</tr>{body or '<tr><td>none</td></tr>'}</table></div>"


def _credit(earned: Sequence[Earned]) -> str:
    rows = "".join(
        f"<tr><td>{escape(visible(one.name))}</td><td><div class=bar><i style='width:{100 * one.credit / one.of:.1f}%'></i></div></td>"
        f"<td class=n>{one.credit:.1f} of {one.of:g}</td><td>{'held-out cases' if one.heldout else 'shown cases'}</td></tr>"
        for one in earned
    )
    return f"<div class=box><table><tr><th>milestone<th><th class=n>credit<th>decided by</tr>{rows}</table></div>"


def _gap(gap: Gap) -> list[str]:
    return [
        gap.suite,
        *(f"{one.passed}/{one.total} ({percent(one.passed, one.total)})" for one in (gap.shown, gap.heldout)),
    ]


def _seats(rows: Sequence[_SeatRow]) -> str:
    heads = ["seat", "role", "model", "#sessions", "#turns", "#landed", "#bounced", "#cases gained", "#cost"]
    cells = [
        [
            row.seat,
            row.role,
            row.model,
            str(row.sessions),
            str(row.turns),
            str(row.landed),
            str(row.bounced),
            str(row.gained),
            money(row.cost.spent_usd) if row.cost and row.cost.spent_usd is not None else "unmetered",
        ]
        for row in rows
    ]
    return _table(heads, cells)


def _task(row: queries.TaskRow) -> list[str]:
    return [row.id, row.state, row.title, str(row.cases), str(row.bounces or ""), row.reason or row.seat]


def _story(db: sqlite3.Connection, found: Sequence[Entry]) -> str:
    narrator = Narrator(db)
    lines = [spoken(narrator.line(entry), f"{day(entry.at)} {clock(entry.at)}") for entry in found]
    return f"<div class=box><pre>{escape(chr(10).join(lines) or 'none')}</pre></div>"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A tree of facts as rows of dotted name and value."""
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{name}.{key}".strip("."))]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)))]
    return [(name, str(value))]
