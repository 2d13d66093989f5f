"""How a command fails: in words, with a kind for programs and an exit code for shells."""

from __future__ import annotations

from typing import Any, Final

EXIT: Final[dict[str, int]] = {
    "refused": 1,
    "usage": 2,
    "config": 2,
    "ambiguous": 2,
    "not_ready": 3,
    "not_found": 4,
    "busy": 5,
    "lock_differs": 6,
    "internal": 70,
}
"""Exit code of each kind of failure (docs/cli.md). Whatever carries a `kind` from this table is such a failure."""


class Failure(Exception):
    """What is wrong, where, and what to do: `hints` are lines for the user."""

    def __init__(self, kind: str, message: str, *hints: str, where: str = "") -> None:
        super().__init__(message)
        self.kind, self.hints, self.where = kind, hints, where

    def plain(self) -> dict[str, Any]:
        body = {
            "kind": self.kind,
            "message": str(self),
            "where": self.where or None,
            "hint": "\n".join(self.hints) or None,
        }
        return {"error": body}
