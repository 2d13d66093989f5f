"""Anthropic's Messages API: streaming, tools, thinking, prompt caching.

Caching: the prefix is tools, system, messages. One breakpoint after `system` covers the first two, which all sessions
of a role share; one on each of the last two user messages covers the conversation. The older of the two is where the
previous request wrote its entry: the vendor looks back only 20 blocks from a breakpoint, and one turn may hold more.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import anthropic

from agents.models.base import Block, Opaque, Reply, Request, Role, Stop, Text, ToolCall, ToolResult, Usage
from agents.models.wire import Event, Vendor, tool_call

VENDOR: Final = "anthropic"
BREAKPOINT: Final = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}  # 1 h costs twice the input price to write

STOPS: Final = {  # any other is a plain end
    "tool_use": Stop.TOOLS,
    "max_tokens": Stop.LENGTH,
    "refusal": Stop.REFUSAL,
    "model_context_window_exceeded": Stop.CONTEXT,
}


def connect(name: str, key: str, url: str | None, window: int, idle_s: float, *, compatible: bool) -> Vendor:
    """One model of one account."""
    client = anthropic.AsyncAnthropic(api_key=key, base_url=url, max_retries=0, timeout=None)
    return Vendor(window, client, client.messages.create, partial(_body, name), _read, idle_s)


def _body(name: str, request: Request) -> dict[str, Any]:
    contents = [(message.role, [_block(block) for block in message.blocks]) for message in request.messages]
    for content in [content for role, content in contents if role is Role.USER][-2:]:
        content[-1] |= BREAKPOINT
    tools = [{"name": one.name, "description": one.description, "input_schema": one.schema} for one in request.tools]
    return {
        "model": name,
        "max_tokens": request.max_tokens,
        "system": [{"type": "text", "text": request.system, **BREAKPOINT}],
        "tools": tools,
        "messages": [{"role": role, "content": content} for role, content in contents],
        "stream": True,
        **thinking(name, request.max_tokens),
    }


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


def _read(events: Sequence[Event]) -> Reply:
    """We collect the events ourselves: the SDK's collector parses each tool argument again at every delta, and ends the
    whole reply when a model's JSON is bad."""
    if not events or events[-1]["type"] != "message_stop":
        raise EOFError
    message: dict[str, Any] = {}
    blocks: list[dict[str, Any]] = []
    for event in events:
        match event["type"]:
            case "message_start":
                message |= event["message"]
            case "content_block_start":
                blocks.append(dict(event["content_block"]))
            case "content_block_delta":
                # The next piece of one field: text, thinking, signature, or partial_json of a call.
                block, delta = blocks[event["index"]], event["delta"]
                block |= {key: block.get(key, "") + piece for key, piece in delta.items() if key != "type"}
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= {kind: count for kind, count in event["usage"].items() if count is not None}
    said = tuple(_neutral(block) for block in blocks if block.get("text") != "")
    usage, stop = message["usage"], STOPS.get(message["stop_reason"], Stop.END)
    return Reply(said, stop, _counted(usage), message["model"], usage)


def _neutral(block: dict[str, Any]) -> Block:
    match block["type"]:
        case "text":
            return Text(block["text"])
        case "tool_use":
            return tool_call(block["id"], block["name"], block.get("partial_json", ""))
    return Opaque(VENDOR, block)


def _counted(usage: Mapping[str, Any]) -> Usage:
    written = usage.get("cache_creation") or {"ephemeral_5m_input_tokens": usage.get("cache_creation_input_tokens")}
    return Usage(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=usage.get("cache_read_input_tokens") or 0,
        cache_write_5m=written.get("ephemeral_5m_input_tokens") or 0,
        cache_write_1h=written.get("ephemeral_1h_input_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )
