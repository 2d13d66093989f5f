"""Curves as SVG by our own few lines: no library, no script, nothing fetched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 230, 58, 160, 34, 34
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
COLOURS: Final = ("#2563eb", "#d97706", "#15803d", "#b91c1c", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


@dataclass(frozen=True)
class Curve:
    """Points (hours, value): a value holds until the next point."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool


def figure(panels: Sequence[tuple[str, Sequence[Curve]]], hours: float) -> str:
    """Titled panels under each other over one axis of hours, as one SVG that needs nothing beside it."""
    height, hours = HEIGHT * len(panels), max(hours, 1e-3)
    size = f"viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'"
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' {size} font-family='system-ui,sans-serif' font-size='12'>"]
    parts.append(f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>")
    for number, (title, curves) in enumerate(panels):
        parts.append(f"<g transform='translate(0,{number * HEIGHT})'>{_panel(title, curves, hours)}</g>")
    return "".join([*parts, "</svg>"])


def _panel(title: str, curves: Sequence[Curve], hours: float) -> str:
    """The curves over their grid; beside it the name and the last value of each, the highest first."""
    heights = _ticks(max(value for curve in curves for _, value in curve.points) or 1)

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
    for place, curve in enumerate(sorted(curves, key=lambda curve: -curve.points[-1][1])):
        path = f"M{LEFT} {y(0)}" + "".join(f"H{x(hour)}V{y(value)}" for hour, value in curve.points) + f"H{x(hours)}"
        dash = " stroke-dasharray='6 4'" if curve.dashed else ""
        parts.append(f"<path d='{path}' fill='none' stroke='{curve.colour}' stroke-width='2'{dash}/>")
        words = f"{curve.name} {round(curve.points[-1][1], 2):,g}"
        parts.append(_text(WIDTH - RIGHT + 8, TOP + 4 + 15 * place, words, curve.colour, "start"))
    return "".join(parts)


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f"<text x='{x}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"


def _ticks(top: float) -> list[float]:
    """Zero and up to five round steps, the last at or just over `top`."""
    scale = 10.0 ** math.floor(math.log10(top / 5))
    step = next(size * scale for size in (1, 2, 2.5, 5, 10) if 5 * size * scale >= top)
    return [round(step * number, 10) for number in range(math.ceil(top / step - 1e-9) + 1)]
