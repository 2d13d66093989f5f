"""OpenAI's Responses API, and whatever server speaks it at another base URL.

Nothing is stored at the vendor (`store` is false): each request carries the whole conversation, reasoning included, as
encrypted items that we return unchanged. The vendor caches by prefix on its own; a key keeps a session together.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import openai

from agents.models.base import Block, Message, Opaque, Reply, Request, Role, Stop, Text, ToolCall, ToolResult, Usage
from agents.models.wire import Event, Vendor, refusal, tool_call

VENDOR: Final = "openai"
NO_REASONING: Final = ("gpt-3", "gpt-4", "chatgpt-4")  # these refuse a request that asks for encrypted reasoning
FUNCTION: Final = {"type": "function", "strict": False}  # strict schemas cannot have optional arguments


def connect(name: str, key: str, url: str | None, window: int, idle_s: float, *, compatible: bool) -> Vendor:
    """One model of one account. `compatible` means another's server: it is sent only what every such server knows."""
    client = openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0, timeout=None)
    return Vendor(window, client, client.responses.create, partial(_body, name, compatible), _read, idle_s)


def _body(name: str, compatible: bool, request: Request) -> dict[str, Any]:
    tools = [{"name": one.name, "description": one.description, "parameters": one.schema} for one in request.tools]
    body: dict[str, Any] = {
        "model": name,
        "instructions": request.system,
        "input": [item for message in request.messages for item in _items(message)],
        "tools": [FUNCTION | tool for tool in tools],
        "max_output_tokens": request.max_tokens,
        "store": False,
        "stream": True,
    }
    if not compatible:
        start = json.dumps([request.system, *_items(request.messages[0])]).encode()
        body["prompt_cache_key"] = hashlib.sha256(start).hexdigest()[:32]
        if not name.startswith(NO_REASONING):
            body["include"] = ["reasoning.encrypted_content"]
    return body


def _items(message: Message) -> list[dict[str, Any]]:
    """One message as Responses items: text in a message item, calls, results and reasoning each an item of its own."""
    items: list[dict[str, Any]] = []
    kind = "input_text" if message.role is Role.USER else "output_text"
    phase: Mapping[str, Any] = {}
    for block in message.blocks:
        match block:
            case Text(text):
                content = [{"type": kind, "text": text}]
                items.append({"type": "message", "role": str(message.role), "content": content, **phase})
                phase = {}
            case Opaque(_, data) if "phase" in data:
                phase = data
            case Opaque(_, data):
                items.append(dict(data))
            case ToolCall(id, name, arguments):
                text = json.dumps(dict(arguments), ensure_ascii=False)
                items.append({"type": "function_call", "call_id": id, "name": name, "arguments": text})
            case ToolResult(call, text, _):
                items.append({"type": "function_call_output", "call_id": call, "output": text})
    return items


def _read(events: Sequence[Event]) -> Reply:
    """The last event holds the whole response, or what became of it."""
    last: Event = events[-1] if events else {"type": "none"}
    match last["type"]:
        case "response.failed" | "error":
            raise refusal(last.get("response", last), message="the response failed")
        case "response.completed" | "response.incomplete":
            response = last["response"]
        case _:
            raise EOFError
    blocks = tuple(block for item in response["output"] for block in _blocks(item))
    stop = Stop.TOOLS if any(isinstance(block, ToolCall) for block in blocks) else Stop.END
    if reason := (response.get("incomplete_details") or {}).get("reason"):
        stop = Stop.REFUSAL if reason == "content_filter" else Stop.LENGTH
    return Reply(blocks, stop, _counted(response["usage"]), response["model"], response["usage"])


def _blocks(item: Mapping[str, Any]) -> list[Block]:
    if item["type"] == "message":
        parts = [part.get("text") or part.get("refusal") or "" for part in item["content"]]
        phase: list[Block] = [Opaque(VENDOR, {"phase": item["phase"]})] if item.get("phase") else []
        return [*phase, *(Text(part) for part in parts if part)]
    if item["type"] == "function_call":
        return [tool_call(item["call_id"], item["name"], item["arguments"])]
    return [Opaque(VENDOR, {key: value for key, value in item.items() if key != "status"})]


def _counted(usage: Mapping[str, Any]) -> Usage:
    """OpenAI counts cached tokens inside its input, and prices writes alike whatever their lifetime."""
    details = usage.get("input_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(
        input=usage["input_tokens"] - read - written,
        output=usage["output_tokens"],
        cache_read=read,
        cache_write_5m=written,
        reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    )
