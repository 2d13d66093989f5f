"""How values read on a line: hostile text made visible, money, times, shares, tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from agents import visible as terminal


def visible(text: object, limit: int = 400) -> str:
    """One line that a terminal shows and never obeys: what would act on it is spelled out, what is too long is cut."""
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return terminal.visible(cut).replace("\n", "\\n").replace("\t", "\\t")


def money(micro: int | None) -> str:
    return "unknown" if micro is None else f"${micro / 1e6:,.2f}"


def decimal(micro: int) -> str:
    """Micro-dollars as a decimal string, without losing any."""
    whole, _, cents = f"{Decimal(micro).scaleb(-6):f}".partition(".")
    return f"{whole}.{cents.rstrip('0'):0<2}"


def percent(part: float, whole: float) -> str:
    return "-" if not whole else f"{100 * part / whole:.1f} %"


def hours(seconds: float) -> str:
    """Hours and minutes, `08:31`."""
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}"


def span(seconds: float) -> str:
    """How long, to the precision a person wants."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def when(at: str) -> datetime:
    """A stored time."""
    return datetime.fromisoformat(at)


def clock(at: str) -> str:
    """A stored time as the local time of day."""
    return moment(at)[11:]


def moment(at: str) -> str:
    """A stored time as local date and time."""
    return when(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def some(names: Sequence[object], shown: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(visible(name) for name in names[:shown]) + more


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows as aligned columns; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<" * left + ">" * (len(widths) - left)
    shown = ((f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows)
    return ["  ".join(cells).rstrip() for cells in shown]
