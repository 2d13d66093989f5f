"""What a model is to us: one request in, one complete reply out, or one `ModelFailure`.

Messages are neutral frozen data; an adapter turns them into a vendor's wire format and back. What only the vendor
understands (signed thinking, encrypted reasoning) travels through as an opaque block and is sent back unchanged.

Adapters name the fault and never decide. How often it is tried again, whether it may have cost money and how it is told
stands beside its name here, so that no second list can drift from this one. A refusal before the vendor began (429,
529, no connection) is free. Once a stream has begun, or when we cannot know, the attempt stays in doubt and counts at
its worst case: an overload inside an HTTP 200 is a fault of the same name as a 529, but not of the same price.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, Protocol


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Opaque:
    """A vendor's block that we store and return byte for byte, and never read."""

    vendor: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A tool the model asks for. `error` is set when its arguments were not what the tool takes."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True)
class ToolResult:
    call: str  # ToolCall.id
    text: str
    failed: bool = False


Block = Text | Opaque | ToolCall | ToolResult


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True)
class Message:
    role: Role
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it; `schema` is a JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One request. `system` and `tools` are the same for a whole session, so that they stay cached."""

    system: str
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    max_tokens: int = 16_000


@dataclass(frozen=True)
class Usage:
    """Tokens by kind, as the vendor counted them. `input` excludes what was read from or written to the cache."""

    input: int = 0
    output: int = 0  # includes reasoning
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0


class Stop(StrEnum):
    END = "end"
    TOOLS = "tools"
    LENGTH = "length"
    REFUSAL = "refusal"
    CONTEXT = "context"  # the window is full


@dataclass(frozen=True)
class Reply:
    """A complete response. `model` is the id that the vendor returned; `raw_usage` is kept for reconciliation."""

    blocks: tuple[Block, ...]
    stop: Stop
    usage: Usage
    model: str
    raw_usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(block for block in self.blocks if isinstance(block, ToolCall))


class Model(Protocol):
    """Raises `ModelFailure` and nothing else. No retries inside: one call, one attempt."""

    window: int
    """Tokens of one request and its reply together."""

    async def reply(self, request: Request) -> Reply: ...

    async def close(self) -> None:
        """Closes its connections; in the event loop that it was used in."""


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
