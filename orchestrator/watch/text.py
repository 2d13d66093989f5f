"""How values read: on a line for people, with hostile text made visible; in JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator import quoting


def visible(text: object, limit: int = 400) -> str:
    """One line that a terminal shows and never obeys: what would act on it is spelled out, what is too long is cut."""
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return quoting.visible(cut).replace("\n", "\\n").replace("\t", "\\t")


def encode(schema: str, answer: Any) -> str:
    """An answer as JSON. Its fields are only ever added to."""
    return json.dumps({"schema": f"{schema}/1", **plain(answer)})


def plain(value: Any, name: str = "") -> Any:
    """Dataclasses become objects, times UTC to the second. A number whose name ends in `_usd` or `_usd_h` is
    micro-dollars and becomes a decimal string; unknown stays null."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, int) and name.endswith(("_usd", "_usd_h")):
        return decimal(value)
    if isinstance(value, str):
        return re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?\+00:00$", r"\1Z", value)
    return value


def decimal(micro: int) -> str:
    """Micro-dollars as a decimal string, without losing any."""
    whole, _, cents = f"{Decimal(micro).scaleb(-6):f}".partition(".")
    return f"{whole}.{cents.rstrip('0'):0<2}"


def money(micro: int | None) -> str:
    return "unknown" if micro is None else f"${micro / 1e6:,.2f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def span(seconds: float) -> str:
    """How long, to the precision a person wants."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def moment(at: str) -> str:
    """A stored time as local date and time."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(at: str) -> str:
    """A stored time as the local time of day."""
    return moment(at)[11:]


def some(names: Sequence[object]) -> str:
    """The first three of a list, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(visible(name) for name in names[:3]) + more


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)


def cell(name: str, value: Any) -> str:
    """A field of a table: money by its name, a share if it has a fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        return percent(value, 1)
    return money(value) if name.endswith("_usd") else str(value)


def heading(name: str) -> str:
    return name.removesuffix("_usd").replace("_", " ")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the names of their columns, numbers to the right. A column with nothing in it is left out."""
    columns = []
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        if any(values):
            cells = [heading(name), *(cell(name, value) for value in values)]
            side = "<" if any(isinstance(value, str) for value in values) else ">"
            columns.append([f"{text:{side}{max(map(len, cells))}}" for text in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))
