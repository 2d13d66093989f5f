"""What a model is to us: one request in, one complete reply out.

Messages are neutral frozen data; an adapter turns them into a vendor's wire format and back. What only the vendor
understands (signed thinking, encrypted reasoning) travels through as an opaque block and is sent back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


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
    """Raises `ModelFailure` (agents/models/failures.py) and nothing else. No retries inside: one call, one attempt."""

    id: str
    """What `--model` named: `anthropic/claude-opus-4-6`, `scripted:team.toml`."""
    window: int
    """Tokens of one request and its reply together."""

    async def reply(self, request: Request) -> Reply: ...

    async def close(self) -> None:
        """Closes its connections; in the event loop that it was used in."""
