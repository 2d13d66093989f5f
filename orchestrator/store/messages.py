"""Replies as JSON. Old transcripts always load: tags and fields are only ever added."""

from __future__ import annotations

import json
from typing import Any

from agents.models.base import Block, Opaque, Reply, Stop, Text, ToolCall, ToolResult, Usage


def encode_reply(reply: Reply) -> str:
    body = {
        "blocks": [_encode(block) for block in reply.blocks],
        "stop": reply.stop.value,
        "usage": vars(reply.usage),
        "model": reply.model,
        "raw_usage": dict(reply.raw_usage),
    }
    return json.dumps(body, sort_keys=True)


def decode_reply(text: str | bytes) -> Reply:
    body = json.loads(text)
    blocks = tuple(_decode(block) for block in body["blocks"])
    return Reply(blocks, Stop(body["stop"]), Usage(**body["usage"]), body["model"], body["raw_usage"])


def _encode(block: Block) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"type": "text", "text": text}
        case Opaque(vendor, data):
            return {"type": "opaque", "vendor": vendor, "data": dict(data)}
        case ToolCall(id, name, arguments, error):
            return {"type": "call", "id": id, "name": name, "arguments": dict(arguments), "error": error}
        case ToolResult(call, text, failed):
            return {"type": "result", "call": call, "text": text, "failed": failed}


def _decode(block: dict[str, Any]) -> Block:
    match block["type"]:
        case "text":
            return Text(block["text"])
        case "opaque":
            return Opaque(block["vendor"], block["data"])
        case "call":
            return ToolCall(block["id"], block["name"], block["arguments"], block["error"])
        case "result":
            return ToolResult(block["call"], block["text"], block["failed"])
        case other:
            raise ValueError(f"a stored message has a block of unknown type {other!r}")
