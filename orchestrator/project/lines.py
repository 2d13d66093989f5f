"""On which line a key of a TOML text stands: `tomllib` gives values without lines, and an error needs its line."""

from __future__ import annotations

import tomllib
from typing import Any

KeyPath = tuple[str | int, ...]  # ("suite", 2, "heldout"): the same steps that lead through the parsed value


def line_of(text: str, path: KeyPath) -> int:
    """The line, counted from 1, where `path` of a valid TOML text begins. What is not written down has the line of what
    is around it: a missing key its table's.

    A text cut behind a statement is valid TOML, and so is one cut behind an element of an array and closed again. So
    the key stands on the first line behind the longest such beginning that lacks it.
    """
    lines = text.split("\n")
    while path and not _holds(tomllib.loads(text), path):
        path = path[:-1]
    first = 1
    for number in range(1, len(lines) + 1):
        for closing in ("", "\n]"):
            try:
                beginning = tomllib.loads("\n".join(lines[:number]) + closing)
            except tomllib.TOMLDecodeError:
                continue
            if _holds(beginning, path):
                return first
            first = number + 1
            break
    return first


def _holds(value: Any, path: KeyPath) -> bool:
    for step in path:
        if isinstance(value, dict):
            if step not in value:
                return False
        elif not (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            return False
        value = value[step]
    return True
