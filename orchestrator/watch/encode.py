"""Answers as JSON: the fields that docs/cli.md promises, only ever added to."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.watch.text import decimal


def encode(schema: str, answer: Any) -> str:
    return json.dumps({"schema": f"{schema}/1", **plain(answer)})


def plain(value: Any, name: str = "") -> Any:
    """Dataclasses become objects, times UTC to the second. A number whose name ends in `_usd` or `_usd_h` is
    micro-dollars and becomes a decimal string; unknown stays null."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, int) and name.endswith(("_usd", "_usd_h")):
        return decimal(value)
    if isinstance(value, str):
        return re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?\+00:00$", r"\1Z", value)
    return value
