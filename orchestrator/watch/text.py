"""How values read on a line: hostile text made visible, money, spans of time, shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Final

_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})  # controls, formats (bidi, zero width), line breaks


def visible(text: object, limit: int = 400) -> str:
    """One line that a terminal shows and never obeys: what would act on it is spelled out, what is too long is cut."""
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return "".join(_spelled(mark) if unicodedata.category(mark) in _HIDDEN else mark for mark in cut)


def _spelled(mark: str) -> str:
    code = ord(mark)
    return _SHORT.get(mark) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def money(micro: int | None) -> str:
    return "unknown" if micro is None else f"${micro / 1e6:,.2f}"


def decimal(micro: int) -> str:
    """Micro-dollars as a decimal string, without losing any."""
    sign, whole = "-" if micro < 0 else "", abs(micro)
    cents = f"{whole // 1_000_000}.{whole % 1_000_000:06d}"
    return sign + cents.rstrip("0").ljust(cents.index(".") + 3, "0")


def percent(part: float, whole: float) -> str:
    return "-" if not whole else f"{100 * part / whole:.1f} %"


def hours(seconds: float) -> str:
    """Hours and minutes, `08:31`."""
    minutes = int(max(seconds, 0) // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def span(seconds: float) -> str:
    """How long, to the precision a person wants."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clock(at: datetime) -> str:
    """Local time of day."""
    return at.astimezone().strftime("%H:%M:%S")


def moment(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def some(names: Sequence[object], shown: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(visible(name) for name in names[:shown]) + more


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows as aligned columns; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
