"""Every way in which asking a model can fail, and the one table that says what follows from it.

Adapters raise `ModelFailure` and nothing else; they name the fault and never decide. How often it is tried again,
whether it may have cost money and how it is told stands beside its name here, so that no second list can drift from
this one.

A refusal before the vendor began (429, 529, no connection) is free. Once a stream has begun, or when we cannot know,
the attempt stays in doubt and counts at its worst case: an overload inside an HTTP 200 is a fault of the same name as
a 529, but not of the same price.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True)
class Policy:
    """What follows from a fault. `tries` bounds attempts at one request: 1 is never again, None as long as it takes."""

    words: str  # what people see
    billed: bool  # may have cost money even if no response began
    tries: int | None
    signs: tuple[int | str, ...]  # that tell it: statuses, the vendors' codes, and words of their sentences


TOO_LONG: Final = ("prompt is too long", "context window", "context length", "context limit")


class Fault(Policy, Enum):
    """What went wrong. A limit or an outage ends by itself and costs nothing, so a team of days sits it out. A fault
    that may be billed, or that one request may cause each time it is sent, is bounded: a deterministic 500 was once
    retried for 24 days."""

    RATE_LIMITED = "rate limit", False, None, (429, "rate_limit_error", "rate_limit_exceeded")
    OVERLOADED = "overloaded", False, None, (529, "overloaded_error", "server_is_overloaded")
    UNREACHABLE = "unreachable", False, None, ()
    SERVER_ERROR = "server error", True, 12, (408, 409, "api_error", "server_error", "timeout_error")
    CUT = "stream cut", True, 8, ()
    STALLED = "stream stalled", True, 5, ()
    GARBLED = "unreadable response", True, 5, ()
    CONTEXT_FULL = "context window exceeded", False, 1, (413, "context_length_exceeded", "request_too_large", *TOO_LONG)
    UNAUTHORIZED = "key refused", False, 1, (401, 403, "authentication_error", "invalid_api_key", "permission_error")
    NO_CREDIT = "no credit left", False, 1, (402, "billing_error", "insufficient_quota", "credit balance")
    NOT_FOUND = "no such model", False, 1, (404, "model_not_found")
    REJECTED = "request rejected", False, 1, ("invalid_prompt",)


@dataclass(eq=False)
class ModelFailure(Exception):
    """One attempt at one request failed. `partial` is the text that had come, kept for the record and never acted on.

    `began` says that the vendor had started to answer, so that the attempt may be billed whatever its fault.
    `retry_after` is in seconds, when the vendor named it.
    """

    fault: Fault
    message: str
    retry_after: float | None = None
    began: bool = False
    partial: str = ""

    def __str__(self) -> str:
        return f"{self.fault.words}: {self.message}"

    @property
    def billed(self) -> bool:
        """Whether the attempt may have cost money, so that it stays in doubt."""
        return self.began or self.fault.billed


SIGNS: Final = {sign: fault for fault in Fault for sign in fault.signs}


def fault_of(status: int, codes: tuple[str, ...], message: str) -> Fault:
    """Names the fault of an answer that is an error: by the vendor's code, else its sentence, else the status.

    A full window and an empty account arrive as a plain 400 from some servers; there only the sentence tells.
    """
    sentences = [sign for sign in SIGNS if " " in str(sign) and str(sign) in message.lower() and status in (200, 400)]
    for sign in (*codes, *sentences, status):
        if sign in SIGNS:
            return SIGNS[sign]
    return Fault.REJECTED if 400 <= status < 500 else Fault.SERVER_ERROR
