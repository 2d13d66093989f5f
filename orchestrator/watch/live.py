"""One frame of `watch`: what a person sees of a run at a glance, drawn for a terminal.

A frame is made of the same answers as `status`, `logs` and `why` give, read in one snapshot. Everything that an agent
may have written is handed to rich as text, never as markup.
"""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orchestrator.watch import queries, render
from orchestrator.watch.journal import NEWS, entries, spoken
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import Answer, cell, clock, share, span
from orchestrator.watch.why import why

BARS: Final = "▁▂▃▄▅▆▇█"
SHOWN: Final = tuple(kind for kind in NEWS if kind not in ("seat-idle", "task-dropped"))  # a planner drops many at once
MOST: Final = 100  # entries read for the part below the seats
BELOW: Final = 5  # lines that the news has at least
OPEN: Final = 3  # seats beside an open pane
ALL: Final = 20  # lines that a frame wants beside its seats
LEAST: Final = 44  # cells of a line's beginning: when, what, who, and some words
STYLES: Final = {"look at": "yellow", "waiting": "yellow", "landed": "green", "bounced": "red", "idle": "dim"}
KEYS: Final = "[↑↓] seat  [enter] calls  [w] why  [p] pause  [q] leave"
MOVES: Final = {"up": -1, "down": 1}
PANES: Final = {"enter": "calls", "w": "why", "esc": ""}


@dataclass(frozen=True)
class View:
    """What somebody chose to see: a seat, and below the seats its `calls`, `why` it stands there, or "", the news.
    `word` is what the last key had to say, else which keys there are."""

    seat: str = ""
    pane: str = ""
    word: str = KEYS


STILL: Final = View(word="")  # for a frame that hears no keys


def pressed(view: View, key: str, seats: Sequence[str]) -> View:
    """The view after a key. Arrows choose a seat; a pane is opened by its key and closed by it or by Esc."""
    place = seats.index(view.seat) if view.seat in seats else -1
    if key in MOVES and seats:
        place = min(max(place + MOVES[key], 0), len(seats) - 1)
    elif key in PANES and seats:
        place, pane = max(place, 0), PANES[key]
        view = replace(view, pane="" if pane == view.pane else pane)
    return replace(view, seat=seats[place] if place >= 0 else "", word=KEYS)


def look(db: sqlite3.Connection, begin: Answer, view: View) -> Answer:
    """What a frame shows: the answer of `status`, more of each seat in `team`, the suites' `curves`, lines `below`."""
    team = queries.rows(db, SQL["watched"].format(seats=SQL["seats"]), at=begin["as_of"])
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in queries.rows(db, SQL["curves"], at=begin["as_of"]):
        curves.setdefault(row["suite"], []).append((row["moment"], row["share"]))
    if view.pane == "why":
        (topic,) = [seat["task"] or seat["change"] or view.seat for seat in team if seat["seat"] == view.seat]
        below = render.why(why(db, topic)).splitlines()
    else:
        where, of = ("seat = ?", [view.seat]) if view.pane else (f"kind IN {SHOWN}", [])
        newest = entries(db, f"seq IN (SELECT seq FROM journal WHERE {where} ORDER BY seq DESC LIMIT {MOST})", *of)
        below = [spoken(entry, clock(entry.at), with_seat=not view.pane) for entry in newest]
    return begin | queries.status(db, begin) | {"team": team, "curves": curves, "below": below}


def frame(seen: Answer, view: View, width: int, height: int) -> Panel:
    """A box of so many cells and lines: suites, money, queue, what to look at; seats; and below them news or a pane."""
    head = _head(seen, width - 4, most=max(height // 6, 1))
    room = height - len(head) - 2 - bool(view.word)
    shown = _shown(seen["team"], view, OPEN if view.pane else max(room - BELOW, 1))
    hidden = len(seen["team"]) - len(shown)
    word = f"… {hidden} more  " * (hidden > 0) + view.word
    below = [Text(word, "dim" if view.word in (KEYS, "") else "yellow")] if word else []
    lines = max(height - len(head) - 2 - len(below) - len(shown), 0)
    told = seen["below"][:lines] if view.pane == "why" else seen["below"][len(seen["below"]) - lines :]
    below += [_told(line, width - 4) for line in told]
    for row in (*head, *below):  # ends with the box instead of going on in the next line
        row.no_wrap, row.overflow = True, "ellipsis"
    rows = Group(*head, _seats(shown, view), *below)
    title = Text(f"{seen['run']} ─ {render.health(seen)} ─ {render.state(seen)}", "bold")
    style = "none" if seen["healthy"] else "red"
    return Panel(rows, box.SQUARE, title=title, title_align="left", border_style=style, width=width, height=height)


def _head(seen: Answer, width: int, most: int) -> list[Text]:
    """A curve a suite, up to so many, and a line each for money, queue and the first thing to look at."""
    suites = {name: share(suite) for name, suite in list(seen["suites"].items())[:most]}
    left = max(map(len, ("look at", *suites)))
    room = width - left - 4 - max(map(len, suites.values()), default=0)
    lines = [] if suites else [Text("nothing has been judged yet")]
    for name, count in suites.items():
        bars = sparkline(seen["curves"].get(name, []), room)
        lines.append(Text.assemble(f"{name:<{left}}  ", (bars, "cyan"), f"  {count}"))
    said = {"money": render.spent(seen), "queue": render.queue(seen)}
    if seen["attention"]:
        said["look at"] = seen["attention"][0]["text"]
    lines += [Text(f"{label:<{left}}  {text}", STYLES.get(label, "")) for label, text in said.items()]
    return lines


def _shown(seats: Sequence[Answer], view: View, most: int) -> Sequence[Answer]:
    """So many seats, the chosen one among them."""
    place = next((number for number, seat in enumerate(seats) if seat["seat"] == view.seat), 0)
    first = max(0, min(place - most // 2, len(seats) - most)) if place >= most or view.pane else 0
    return seats[first : first + most]


def sparkline(points: Sequence[tuple[float, float]], width: int) -> str:
    """Shares over time, both from 0 to 1, the moments ascending: a share holds until the next."""
    bars = ""
    for place in range(1, width + 1):
        known = [share for moment, share in points if moment <= place / width]
        bars += BARS[int(known[-1] * (len(BARS) - 1))] if known else " "
    return bars


def _seats(seats: Sequence[Answer], view: View) -> Table:
    """A line a seat: its task, or why it is idle, and what it does or waits for."""
    table = Table.grid(padding=(0, 1), expand=True)
    for ratio, most in ((None, None), (None, None), (1, None), (None, None), (None, None), (None, 24)):
        table.add_column(ratio=ratio, max_width=most, no_wrap=True, overflow="ellipsis")
    for seat in seats:
        task = f"{seat['task']} {seat['title']}".strip() or "—"
        cost = "unknown" if seat["unpriced"] else cell("spent_usd", seat["spent_usd"])
        time = "" if seat["seconds"] is None else f" {span(seat['seconds'])}"
        doing = {"at work": f"{seat['doing'] or 'at work'}{time}", "waiting": f"waits{time}: {seat['why']}"}
        cells = [seat["seat"], seat["role"], task, f"turn {seat['turns']}" * bool(seat["turns"]), cost]
        if (state := seat["state"]) not in doing:
            cells[2] = seat["why"]
        style = "reverse " * (seat["seat"] == view.seat) + STYLES.get(state, "")
        table.add_row(*map(Text, [*cells, doing.get(state, state)]), style=style)
    return table


def _told(line: str, width: int) -> Text:
    """A line of news or of a pane, in the colour of what it tells. Where it is too long, what stands before its last
    dot is cut first: behind it stands how far main came, or how long a call took."""
    said, dot, end = line.rpartition(" · ")
    if dot and cell_len(line) > width:
        cut = Text(said)
        cut.truncate(max(width - cell_len(dot + end), LEAST), overflow="ellipsis")
        line = f"{cut}{dot}{end}"
    word = re.match(r"\S+  (\w+)", line)
    return Text(line, STYLES.get(word[1], "") if word else "")
