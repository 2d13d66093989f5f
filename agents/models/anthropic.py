"""Anthropic's Messages API: streaming, tools, thinking, prompt caching.

Caching: the prefix is tools, system, messages. One breakpoint after `system` covers the first two, which all sessions
of a role share; one on each of the last two user messages covers the conversation. The older of the two is where the
previous request wrote its entry: the vendor looks back only 20 blocks from a breakpoint, and one turn may hold more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import anthropic
import anyio

from agents.models.base import Block, Opaque, Reply, Request, Role, Stop, Text, ToolCall, ToolResult, Usage
from agents.models.failures import Fault, ModelFailure
from agents.models.wire import IDLE_S, WIRE_ERRORS, events, failure_of, tool_call

VENDOR = "anthropic"
Lifetime = Literal["5m", "1h"]

STOPS = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "pause_turn": Stop.END,
    "tool_use": Stop.TOOLS,
    "max_tokens": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
    "model_context_window_exceeded": Stop.CONTEXT,
}


class Anthropic:
    """One model of one account. `lifetime` is how long cache entries live; 1 h costs twice the input price to write."""

    def __init__(
        self,
        name: str,
        *,
        key: str,
        base_url: str | None = None,
        window: int = 200_000,
        lifetime: Lifetime = "5m",
        idle_s: float = IDLE_S,
    ) -> None:
        self.id = f"{VENDOR}/{name}"
        self.window = window
        self._name = name
        self._lifetime: Lifetime = lifetime
        self._idle_s = idle_s
        # No timeout of the SDK's: `events` has one, on the clock that tests can simulate.
        self._client = anthropic.AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0, timeout=None)

    async def reply(self, request: Request) -> Reply:
        draft = _Draft(self._lifetime)
        began = False
        try:
            with anyio.fail_after(self._idle_s):
                stream = await self._client.messages.create(**self._body(request))
            began = True
            async with stream:
                async for event in events(stream, self._idle_s):
                    draft.take(event)
            return draft.reply()
        except (anthropic.AnthropicError, TimeoutError, *WIRE_ERRORS) as error:
            raise failure_of(error, began=began, partial=draft.text) from error

    async def close(self) -> None:
        await self._client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": str(m.role), "content": [_block(b) for b in m.blocks]} for m in request.messages]
        for message in [m for m in messages if m["role"] == Role.USER][-2:]:
            message["content"][-1]["cache_control"] = self._breakpoint()  # type: ignore[index]  # the list made above
        return {
            "model": self._name,
            "max_tokens": request.max_tokens,
            "system": [{"type": "text", "text": request.system, "cache_control": self._breakpoint()}],
            "tools": [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}
                for tool in request.tools
            ],
            "messages": messages,
            "stream": True,
            **thinking(self._name, request.max_tokens),
        }

    def _breakpoint(self) -> dict[str, str]:
        return {"type": "ephemeral", "ttl": self._lifetime}


def thinking(name: str, max_tokens: int) -> dict[str, Any]:
    """How this model is asked to think: since 4.6 it decides how much, from 3.7 it has a budget, before not at all."""
    found = re.search(r"-(\d)(?:-(\d))?(?:-|$)", name)
    version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    if version >= (4, 6):
        return {"thinking": {"type": "adaptive"}}
    if version >= (3, 7) and max_tokens > 2048:
        return {"thinking": {"type": "enabled", "budget_tokens": max_tokens // 2}}
    return {}


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Opaque(_, data):
            return dict(data)
        case ToolCall(id, name, arguments):
            return {"type": "tool_use", "id": id, "name": name, "input": dict(arguments)}
        case ToolResult(call, text, failed):
            return {"type": "tool_result", "tool_use_id": call, "content": text or "(empty)", "is_error": failed}


class _Draft:
    """A reply while its events arrive. We collect them ourselves: the SDK's collector parses each tool argument again
    at every delta, and ends the whole reply when a model's JSON is bad."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        self._blocks: list[dict[str, Any]] = []
        self._json: dict[int, str] = {}
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._ended = False

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in self._blocks if block["type"] == "text")

    def take(self, event: Mapping[str, Any]) -> None:
        match event["type"]:
            case "message_start":
                self._message = event["message"]
                self._usage.update(self._message["usage"])
            case "content_block_start":
                self._blocks.append(dict(event["content_block"]))
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                self._stop = event["delta"].get("stop_reason")
                self._usage.update({k: v for k, v in event["usage"].items() if v is not None})
            case "message_stop":
                self._ended = True

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        if not 0 <= index < len(self._blocks):
            raise ValueError(f"a delta for block {index}, which was never started")
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._json[index] = self._json.get(index, "") + delta["partial_json"]

    def reply(self) -> Reply:
        if not self._ended or not self._message:
            raise ModelFailure(Fault.CUT, "the stream ended before the message did", began=True, partial=self.text)
        if self._stop not in STOPS:
            raise ModelFailure(Fault.GARBLED, f"unknown stop reason {self._stop}", began=True, partial=self.text)
        blocks = tuple(self._neutral(i, block) for i, block in enumerate(self._blocks) if block.get("text") != "")
        return Reply(blocks, STOPS[self._stop], self._counted(), self._message["model"], self._usage)

    def _neutral(self, index: int, block: dict[str, Any]) -> Block:
        if block["type"] == "text":
            return Text(block["text"])
        if block["type"] == "tool_use":
            return tool_call(block["id"], block["name"], self._json.get(index, ""))
        return Opaque(VENDOR, block)

    def _counted(self) -> Usage:
        usage = self._usage
        written = usage.get("cache_creation_input_tokens") or 0
        by_lifetime = usage.get("cache_creation") or {f"ephemeral_{self._lifetime}_input_tokens": written}
        return Usage(
            input=usage["input_tokens"],
            output=usage["output_tokens"],
            cache_read=usage.get("cache_read_input_tokens") or 0,
            cache_write_5m=by_lifetime.get("ephemeral_5m_input_tokens", 0),
            cache_write_1h=by_lifetime.get("ephemeral_1h_input_tokens", 0),
            reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
        )
