"""The team's verbs as an agent calls them. The orchestrator implements them; the tools only pass them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class End(StrEnum):
    """Why a session is over."""

    LANDED = "landed"
    RELEASED = "released"
    FINISHED = "finished"  # the model had nothing left to do
    BUDGET = "budget"
    CONTEXT = "context"
    REPEATED_FAILURE = "repeated-failure"
    DRAINED = "drained"
    LEFT = "left"  # an open seat said so, or its lease ran out
    CRASHED = "crashed"


@dataclass(frozen=True)
class Answer:
    """A verb's result as the model reads it: plain text, totals first. `end` ends the session once it is stored."""

    text: str
    refused: bool = False
    end: End | None = None


class Team(Protocol):
    """The verbs of one session. A verb's effect and its result are stored in one transaction under the call's id:
    a call that has had its effect has its answer, and is never asked again.
    """

    async def do(self, verb: str, call_id: str, arguments: Mapping[str, Any]) -> Answer:
        """Runs `tasks`, `claim`, `verify`, `submit`, `release`, `note`, `plan`. Authority is checked by seat and role.

        `submit` answers with the change's terminal state, after waiting for it.
        """
