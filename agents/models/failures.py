"""Every way in which asking a model can fail, and the one table that says what follows from it.

Adapters raise `ModelFailure` and nothing else; they name the fault and never decide. Whether it is tried again, for how
long, and whether it may have cost money is looked up here, so that no second list can drift from this one.

A refusal before the vendor began (429, 529, no connection) is free. Once a stream has begun, or when we cannot know,
the attempt stays in doubt and counts at its worst case: an overload inside an HTTP 200 is a fault of the same name as
a 529, but not of the same price.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """What went wrong, in the words that people see."""

    RATE_LIMITED = "rate limit"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    SERVER_ERROR = "server error"
    CUT = "stream cut"
    STALLED = "stream stalled"
    GARBLED = "unreadable response"
    CONTEXT_FULL = "context window exceeded"
    UNAUTHORIZED = "key refused"
    NO_CREDIT = "no credit left"
    NOT_FOUND = "no such model"
    REJECTED = "request rejected"


class Kind(StrEnum):
    RATE_LIMIT = "rate_limit"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class Billed(StrEnum):
    FREE = "free"
    IN_DOUBT = "in-doubt"


@dataclass(frozen=True)
class Policy:
    """What follows from a fault. `tries` bounds attempts at one request; None waits as long as it takes."""

    kind: Kind
    billed: Billed
    tries: int | None

    @property
    def retry(self) -> bool:
        return self.kind is not Kind.PERMANENT


# A limit or an outage ends by itself and costs nothing, so a team of days sits it out. A fault that may be billed, or
# that one request may cause each time it is sent, is bounded: a deterministic 500 was once retried for 24 days.
POLICY: Final[dict[Fault, Policy]] = {
    Fault.RATE_LIMITED: Policy(Kind.RATE_LIMIT, Billed.FREE, None),
    Fault.OVERLOADED: Policy(Kind.TRANSIENT, Billed.FREE, None),
    Fault.UNREACHABLE: Policy(Kind.TRANSIENT, Billed.FREE, None),
    Fault.SERVER_ERROR: Policy(Kind.TRANSIENT, Billed.IN_DOUBT, 12),
    Fault.CUT: Policy(Kind.TRANSIENT, Billed.IN_DOUBT, 8),
    Fault.STALLED: Policy(Kind.TRANSIENT, Billed.IN_DOUBT, 5),
    Fault.GARBLED: Policy(Kind.TRANSIENT, Billed.IN_DOUBT, 5),
    Fault.CONTEXT_FULL: Policy(Kind.PERMANENT, Billed.FREE, 1),
    Fault.UNAUTHORIZED: Policy(Kind.PERMANENT, Billed.FREE, 1),
    Fault.NO_CREDIT: Policy(Kind.PERMANENT, Billed.FREE, 1),
    Fault.NOT_FOUND: Policy(Kind.PERMANENT, Billed.FREE, 1),
    Fault.REJECTED: Policy(Kind.PERMANENT, Billed.FREE, 1),
}


class ModelFailure(Exception):
    """One attempt at one request failed. `partial` is the text that had come, kept for the record and never acted on.

    `began` says that the vendor had started to answer, so that the attempt may be billed whatever its fault.
    `retry_after` is in seconds, when the vendor named it.
    """

    def __init__(
        self,
        fault: Fault,
        message: str,
        *,
        began: bool = False,
        retry_after: float | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(f"{fault}: {message}")
        self.fault = fault
        self.message = message
        self.began = began
        self.retry_after = retry_after
        self.partial = partial

    @property
    def policy(self) -> Policy:
        return POLICY[self.fault]

    @property
    def billed(self) -> Billed:
        return Billed.IN_DOUBT if self.began else self.policy.billed


STATUS: Final[dict[int, Fault]] = {
    401: Fault.UNAUTHORIZED,
    402: Fault.NO_CREDIT,
    403: Fault.UNAUTHORIZED,
    404: Fault.NOT_FOUND,
    408: Fault.SERVER_ERROR,
    409: Fault.SERVER_ERROR,
    413: Fault.CONTEXT_FULL,
    429: Fault.RATE_LIMITED,
    529: Fault.OVERLOADED,
}

# The vendors' own words, in a refused request's body or in an error inside a stream. They are finer than the status.
CODE: Final[dict[str, Fault]] = {
    "api_error": Fault.SERVER_ERROR,
    "authentication_error": Fault.UNAUTHORIZED,
    "billing_error": Fault.NO_CREDIT,
    "context_length_exceeded": Fault.CONTEXT_FULL,
    "insufficient_quota": Fault.NO_CREDIT,
    "invalid_api_key": Fault.UNAUTHORIZED,
    "invalid_prompt": Fault.REJECTED,
    "model_not_found": Fault.NOT_FOUND,
    "overloaded_error": Fault.OVERLOADED,
    "permission_error": Fault.UNAUTHORIZED,
    "rate_limit_error": Fault.RATE_LIMITED,
    "rate_limit_exceeded": Fault.RATE_LIMITED,
    "request_too_large": Fault.CONTEXT_FULL,
    "server_error": Fault.SERVER_ERROR,
    "server_is_overloaded": Fault.OVERLOADED,
    "timeout_error": Fault.SERVER_ERROR,
}

# A full window and an empty account arrive as a plain 400 from some servers; only the sentence tells.
SENTENCES: Final[tuple[tuple[str, Fault], ...]] = (
    ("prompt is too long", Fault.CONTEXT_FULL),
    ("context window", Fault.CONTEXT_FULL),
    ("context length", Fault.CONTEXT_FULL),
    ("exceed context limit", Fault.CONTEXT_FULL),
    ("credit balance", Fault.NO_CREDIT),
)


def fault_of(status: int, codes: tuple[str, ...], message: str) -> Fault:
    """Names the fault of an answer that is an error: by the vendor's code, else its sentence, else the status."""
    for code in codes:
        if code in CODE:
            return CODE[code]
    if status in (200, 400):
        for words, fault in SENTENCES:
            if words in message.lower():
                return fault
    return STATUS.get(status, Fault.REJECTED if 400 <= status < 500 else Fault.SERVER_ERROR)
