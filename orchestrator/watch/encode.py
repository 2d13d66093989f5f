"""Results as JSON: the fields that docs/cli.md promises, only ever added to."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from orchestrator.watch.text import decimal


def encode(schema: str, result: Any) -> str:
    return json.dumps({"schema": f"{schema}/1", **plain(result)})


def plain(value: Any) -> Any:
    """Dataclasses become objects, times UTC text. A field that ends in `_usd` or `_usd_h` holds micro-dollars and
    becomes a decimal string; unknown stays null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _field(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name.endswith(("_usd", "_usd_h")) and value is not None:
        return decimal(value)
    return plain(value)
