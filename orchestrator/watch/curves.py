"""Curves as SVG by our own few lines: no library, no script, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 58, 150, 34, 34
FONT: Final = "font-family='system-ui,sans-serif' font-size='12'"
INK, FAINT, GRID, PAPER = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
COLOURS: Final = ("#2563eb", "#d97706", "#15803d", "#b91c1c", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


@dataclass(frozen=True)
class Curve:
    """Points (hours, value). A step holds its value until the next point; `dots` marks single events on it."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    curves: Sequence[Curve]
    top: float | None = None  # of the axis; None: what the curves need
    unit: str = ""
    height: int = 250


def figure(panels: Sequence[Panel], hours: float) -> str:
    """Panels under each other over one axis of hours, as one SVG that needs nothing beside it."""
    height, parts = 0, []
    for panel in panels:
        parts.append(f"<g transform='translate(0,{height})'>{_panel(panel, max(hours, 1e-3))}</g>")
        height += panel.height
    size = f"viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT}>"
    return f"{head}<rect width='{WIDTH}' height='{height}' fill='{PAPER}'/>{''.join(parts)}</svg>"


def _panel(panel: Panel, hours: float) -> str:
    unit, scale = ("h", 1.0) if hours >= 2 else ("min", 60.0)
    highest = max((value for curve in panel.curves for _, value in curve.points), default=0.0)
    y_ticks = _ticks(panel.top or highest or 1.0)
    top, x_ticks, plot = panel.top or y_ticks[-1], _ticks(hours * scale), panel.height - TOP - BOTTOM

    def x(hour: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(hour, hours) / hours, 1)

    def y(value: float) -> float:
        return round(TOP + plot * (1 - value / top), 1)

    parts = [f"<text x='{LEFT}' y='18' font-weight='600' fill='{INK}'>{escape(panel.title)}</text>"]
    for tick in y_ticks:
        parts.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(tick)}' y2='{y(tick)}' stroke='{GRID}'/>")
        parts.append(_label(LEFT - 8, y(tick) + 4, f"{tick:,g}{panel.unit}", "end"))
    parts += [_label(x(tick / scale), panel.height - 14, f"{tick:g} {unit}", "middle") for tick in x_ticks[:-1]]
    taken: list[float] = []
    for curve in panel.curves:
        if not curve.points:
            continue
        path = _steps([(x(hour), y(value)) for hour, value in curve.points], x(hours))
        dash = " stroke-dasharray='6 4'" if curve.dashed else ""
        parts.append(f"<path d='{path}' fill='none' stroke='{curve.colour}' stroke-width='2'{dash}/>")
        last = curve.points[-1][1]
        place = _free(y(last) + 4, taken)
        words = escape(f"{curve.name} {_figure(last)}{panel.unit}")
        parts.append(f"<text x='{WIDTH - RIGHT + 8}' y='{place}' fill='{curve.colour}'>{words}</text>")
    return "".join(parts)


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    first, *rest = points
    return f"M{first[0]} {first[1]}" + "".join(f"H{across}V{up}" for across, up in rest) + f"H{end}"


def _figure(value: float) -> str:
    return f"{value:,.2f}" if 0 < value < 1 else f"{value:,.1f}".removesuffix(".0")


def _free(wanted: float, taken: list[float]) -> float:
    """A height for a label at which no other label stands."""
    while any(abs(wanted - other) < 14 for other in taken):
        wanted -= 14
    taken.append(wanted)
    return round(wanted, 1)


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f"<text x='{x}' y='{y}' fill='{FAINT}' text-anchor='{anchor}'>{escape(text)}</text>"


def _ticks(top: float) -> list[float]:
    """Zero and about five round steps up to or just over `top`."""
    rough = top / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(size * scale for size in (1, 2, 2.5, 5, 10) if size * scale >= rough)
    return [round(step * number, 10) for number in range(math.ceil(top / step - 1e-9) + 1)]
