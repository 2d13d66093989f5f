"""A vendor on loopback: Anthropic Messages and OpenAI Responses over real HTTP, played by a script.

It is strict where the vendors are: each call needs its result, reasoning must come back unchanged, and a break of
either is a 400. It counts tokens and cache hits from the bytes it is sent (unless the script names its usage), keeps
its own log of what it would bill, and injects faults by a seeded plan.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agents.models.base import Message, Reply, Request, Role, Text, ToolCall, ToolResult
from agents.models.scripted import Scripted
from tests.wire.faults import Fault, Plan

Json = dict[str, Any]


class Refused(Exception):
    """The request breaks a rule of the vendor's."""


@dataclass
class Billing:
    """What the vendor would bill, as JSON lines: one for each attempt that reached the model, complete or cut; in the
    file with its time."""

    path: Path | None = None
    rows: list[Json] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, row: Json) -> None:
        with self._lock:
            self.rows.append(row)
            if self.path:
                with self.path.open("a") as file:
                    file.write(json.dumps({"at": time.time(), **row}) + "\n")

    def of(self, *states: str) -> list[Json]:
        with self._lock:
            return [row for row in self.rows if row["state"] in states]


def became(row: Json) -> str:
    """What the ledger must say of a response: in doubt wherever the vendor may have worked on it."""
    if row["state"] == "complete":
        return "settled"
    return "in-doubt" if row["state"] == "cut" or row["fault"] == Fault.SERVER_ERROR else "free"


@dataclass
class Vendor:
    """Both vendors at once, with one script and one plan of faults."""

    script: Scripted
    plan: Plan
    billing: Billing
    requests: list[Json] = field(default_factory=list)  # bodies, as they came
    retry_after: float = 0.2
    stall_s: float = 3600.0
    arrivals: bool = False  # whether the log has a line for each request as it comes, before anything else happens
    _cached: set[str] = field(default_factory=set)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def messages(self, http: HttpRequest) -> Response:
        body = await http.json()
        return await self._answer(body, read_messages, self._anthropic_stream, ANTHROPIC_ERRORS)

    async def responses(self, http: HttpRequest) -> Response:
        body = await http.json()
        return await self._answer(body, read_responses, self._openai_stream, OPENAI_ERRORS)

    async def _answer(self, body: Json, read: Any, stream: Any, errors: Mapping[Fault, Json]) -> Response:
        number = next(self._ids)
        self.requests.append(body)
        row = {"id": f"req_{number}", "model": body["model"], **asked_by(body)}
        if self.arrivals:
            self.billing.add({**row, "state": "arrived", "heard": heard(body)})
        fault = self.plan.next()
        if fault in STATUSES:
            self.billing.add({**row, "state": "refused", "fault": fault, "tokens": {}})
            headers = {"retry-after": str(self.retry_after)} if fault is Fault.RATE_LIMIT else {}
            return JSONResponse(errors[fault], STATUSES[fault], headers)
        try:
            request = read(body)
        except Refused as error:
            self.billing.add({**row, "state": "refused", "fault": str(error), "tokens": {}})
            kind = {"type": "invalid_request_error", "message": str(error)}
            return JSONResponse({"type": "error", "error": kind}, 400)
        reply = await self.script.reply(request)
        usage = self._usage(body, reply)
        events = list(stream(body, reply, number, usage))
        return StreamingResponse(self._sent(events, fault, errors, row, usage), media_type="text/event-stream")

    async def _sent(
        self, events: list[Json], fault: Fault | None, errors: Mapping[Fault, Json], row: Json, usage: Json
    ) -> AsyncIterator[bytes]:
        """Sends a stream, or most of one and then its fault. What is cut, by us or by the client, is billed too."""
        half = len(events) * 3 // 4
        billed = False
        try:
            for event in events[:half] if fault else events[:-1]:
                yield sse(event)
            billed = True  # the model's work is done, whether or not the rest arrives
            self.billing.add({**row, "state": "cut" if fault else "complete", "fault": fault, "tokens": usage})
            if fault is None:
                yield sse(events[-1])
            elif fault is Fault.OVERLOAD_IN_STREAM:
                yield sse(errors[fault])
            elif fault is Fault.BAD_JSON:
                kind = events[half]["type"]
                yield f'event: {kind}\ndata: {{"type": "{kind}", "delta": {{{{\n\n'.encode()
            elif fault is Fault.STALL:
                await anyio.sleep(self.stall_s)
            elif fault is Fault.CUT:
                raise ConnectionAbortedError("cut by plan")
        finally:
            if not billed:
                self.billing.add({**row, "state": "cut", "fault": "client left", "tokens": usage})

    def _usage(self, body: Json, reply: Reply) -> Json:
        """Tokens by kind: the script's, or counted from the bytes, with prompt caching as Anthropic does it."""
        if self.script.script.usage:
            return asdict(reply.usage)
        output = sum(len(repr(block)) for block in reply.blocks) // 4 + 1
        total, marks = 0, []
        digest = hashlib.sha256(body["model"].encode())
        for part in prefix(body):
            plain = {key: value for key, value in part.items() if key != "cache_control"}
            text = json.dumps(plain, sort_keys=True).encode()
            digest.update(text)
            total += len(text) // 4 + 1
            if "cache_control" in part:
                marks.append((digest.hexdigest(), total, part["cache_control"].get("ttl", "5m")))
        read = max((size for key, size, _ in marks if key in self._cached), default=0)
        self._cached.update(key for key, _, _ in marks)
        written = max(0, marks[-1][1] - read) if marks else 0
        kind = f"cache_write_{marks[-1][2]}" if marks else "cache_write_5m"
        return {"input": total - read - written, "output": output, "cache_read": read, kind: written}

    def _anthropic_stream(self, body: Json, reply: Reply, number: int, usage: Json) -> Iterator[Json]:
        written = {f"ephemeral_{life}_input_tokens": usage.get(f"cache_write_{life}", 0) for life in ("5m", "1h")}
        counted = {
            "input_tokens": usage.get("input", 0),
            "cache_read_input_tokens": usage.get("cache_read", 0),
            "cache_creation_input_tokens": sum(written.values()),
            "cache_creation": written,
        }
        head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": f"{body['model']}-20260101"}
        start: Json = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": {**start, "usage": {**counted, "output_tokens": 1}}}
        yield {"type": "ping"}
        blocks: list[tuple[Json, list[Json]]] = []
        if "thinking" in body:
            thought = f"thought {number}"
            deltas = [{"type": "thinking_delta", "thinking": part} for part in (thought[:4], thought[4:])]
            signed = {"type": "signature_delta", "signature": signature(thought)}
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]))
        for block in reply.blocks:
            if isinstance(block, Text):
                half = len(block.text) // 2
                deltas = [{"type": "text_delta", "text": part} for part in (block.text[:half], block.text[half:])]
                blocks.append(({"type": "text", "text": ""}, deltas))
            elif isinstance(block, ToolCall):
                text = arguments_text(block)
                half = len(text) // 2
                deltas = [{"type": "input_json_delta", "partial_json": part} for part in (text[:half], text[half:])]
                call = {"type": "tool_use", "id": f"toolu_{number}_{block.id}", "name": block.name, "input": {}}
                blocks.append((call, deltas))
        for index, (block_start, deltas) in enumerate(blocks):
            yield {"type": "content_block_start", "index": index, "content_block": block_start}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        reason = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens"}[reply.stop]
        final = {"output_tokens": usage.get("output", 0), "output_tokens_details": {"thinking_tokens": 0}}
        yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": final}
        yield {"type": "message_stop"}

    def _openai_stream(self, body: Json, reply: Reply, number: int, usage: Json) -> Iterator[Json]:
        count = itertools.count()
        response: Json = {"id": f"resp_{number}", "object": "response", "model": f"{body['model']}-2026-01-01"}

        def event(kind: str, **rest: Any) -> Json:
            return {"type": kind, "sequence_number": next(count), **rest}

        yield event("response.created", response={**response, "status": "in_progress", "output": []})
        items: list[Json] = []
        if "reasoning.encrypted_content" in body.get("include", ()):
            sealed = signature(f"rs_{number}")
            items.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": sealed})
        for block in reply.blocks:
            if isinstance(block, Text):
                content = [{"type": "output_text", "text": block.text, "annotations": []}]
                item: Json = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": content}
                items.append({**item, "status": "completed", "phase": "commentary" if reply.calls else "final_answer"})
            elif isinstance(block, ToolCall):
                call_id = f"call_{number}_{block.id}"
                item = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": block.name}
                items.append({**item, "arguments": arguments_text(block), "status": "completed"})
        for index, item in enumerate(items):
            at = {"output_index": index, "item_id": item["id"]}
            yield event("response.output_item.added", output_index=index, item={**item, "status": "in_progress"})
            if item["type"] == "message":
                text = item["content"][0]["text"]
                for part in (text[: len(text) // 2], text[len(text) // 2 :]):
                    yield event("response.output_text.delta", **at, content_index=0, delta=part, logprobs=[])
            elif item["type"] == "function_call":
                yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
            yield event("response.output_item.done", output_index=index, item=item)
        read, written = usage.get("cache_read", 0), usage.get("cache_write_5m", 0)
        total = usage.get("input", 0) + read + written
        counted = {
            "input_tokens": total,
            "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
            "output_tokens": usage.get("output", 0),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": total + usage.get("output", 0),
        }
        cut = reply.stop == "length"
        done: Json = {"status": "incomplete" if cut else "completed", "output": items, "usage": counted}
        done["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        yield event("response.incomplete" if cut else "response.completed", response={**response, **done})


def asked_by(body: Json) -> Json:
    """Which session asks, by its opening words, and for which of its replies."""
    first, *rest = body["messages"] if "messages" in body else body["input"]
    who = re.search(r"You are (\S+), an? \S+, in session (\d+)", json.dumps(first["content"]))
    # A reply of the Responses API is several items in a row.
    theirs = ["tools" if part.get("role", "assistant") == "assistant" and "output" not in part else "" for part in rest]
    turns = sum(bool(kind) for kind, _ in itertools.groupby(theirs))
    return {"session": f"{who[1]}/{who[2]}" if who else "", "turn": turns + 1}


def heard(body: Json) -> str:
    """What is new in a request: all that came after the newest reply."""
    parts = body["messages"] if "messages" in body else body["input"]
    news = itertools.takewhile(
        lambda part: part.get("role", "assistant") != "assistant" or "output" in part, reversed(parts)
    )
    return json.dumps(list(news))


STATUSES = {Fault.RATE_LIMIT: 429, Fault.OVERLOAD: 529, Fault.SERVER_ERROR: 500}

ANTHROPIC_ERRORS: Mapping[Fault, Json] = {
    fault: {"type": "error", "error": {"type": kind, "message": f"injected {fault}"}}
    for fault, kind in {
        Fault.RATE_LIMIT: "rate_limit_error",
        Fault.OVERLOAD: "overloaded_error",
        Fault.SERVER_ERROR: "api_error",
        Fault.OVERLOAD_IN_STREAM: "overloaded_error",
    }.items()
}

OPENAI_ERRORS: Mapping[Fault, Json] = {
    Fault.RATE_LIMIT: {"error": {"code": "rate_limit_exceeded", "type": "requests", "message": "injected"}},
    Fault.OVERLOAD: {"error": {"code": "server_is_overloaded", "type": "service_unavailable", "message": "injected"}},
    Fault.SERVER_ERROR: {"error": {"code": None, "type": "server_error", "message": "injected"}},
    Fault.OVERLOAD_IN_STREAM: {
        "type": "response.failed",
        "sequence_number": 9,
        "response": {"status": "failed", "error": {"code": "server_is_overloaded", "message": "injected"}},
    },
}


def sse(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def signature(text: str) -> str:
    return hashlib.sha256(f"sealed {text}".encode()).hexdigest()


def arguments_text(call: ToolCall) -> str:
    """A script's `raw` is sent as it stands, so that a model can be played that writes bad JSON."""
    raw = call.arguments.get("raw")
    return raw if isinstance(raw, str) else json.dumps(dict(call.arguments))


def prefix(body: Json) -> Iterator[Json]:
    """The request's parts in the order in which the vendors cache them."""
    yield from body.get("tools", ())
    if "messages" not in body:
        yield {"text": body.get("instructions", "")}
        # OpenAI caches by prefix on its own: as if there were a breakpoint after each item.
        yield from ({**item, "cache_control": {}} for item in body["input"])
        return
    yield from body["system"]
    for message in body["messages"]:
        yield from ({"role": message["role"], **block} for block in message["content"])


def read_messages(body: Json) -> Request:
    """An Anthropic request as a neutral one. Raises `Refused` for what the vendor would not take."""
    marked = sum("cache_control" in part for part in prefix(body))
    if marked > 4:
        raise Refused(f"a maximum of 4 blocks with cache_control may be provided, found {marked}")
    open_calls: set[str] = set()
    messages = []
    for n, message in enumerate(body["messages"]):
        role, content = Role(message["role"]), message["content"]
        if role is not (Role.ASSISTANT if n % 2 else Role.USER) or not content:
            raise Refused(f"messages.{n}: roles must alternate and content must not be empty")
        blocks: list[Any] = []
        for block in content:
            match block["type"]:
                case "text":
                    blocks.append(Text(block["text"]))
                case "thinking" if block["signature"] != signature(block["thinking"]):
                    raise Refused("`thinking` blocks cannot be modified")
                case "tool_use":
                    blocks.append(ToolCall(block["id"], block["name"], block["input"]))
                case "tool_result":
                    blocks.append(ToolResult(block["tool_use_id"], block["content"], block["is_error"]))
        if role is Role.ASSISTANT and "thinking" in body and content[0]["type"] != "thinking":
            raise Refused("a final `assistant` message must start with a thinking block")
        if role is Role.USER and open_calls != {block.call for block in blocks if isinstance(block, ToolResult)}:
            raise Refused("`tool_use` ids were found without `tool_result` blocks immediately after")
        open_calls = {block.id for block in blocks if isinstance(block, ToolCall)}
        messages.append(Message(role, tuple(blocks)))
    return Request(body["system"][0]["text"], (), tuple(messages), body["max_tokens"])


def read_responses(body: Json) -> Request:
    """A Responses request as a neutral one. Raises `Refused` for what the vendor would not take."""
    if body["store"]:
        raise Refused("this server stores nothing")
    calls, results, reasoned = set(), set(), False
    messages: list[Message] = []
    for item in body["input"]:
        block: Any = None
        role = Role.ASSISTANT
        match item["type"]:
            case "message":
                role = Role(item["role"])
                block = Text("".join(part["text"] for part in item["content"]))
                if role is Role.ASSISTANT and item.get("phase") not in ("commentary", "final_answer"):
                    raise Refused("an assistant message lost its phase")
            case "reasoning":
                reasoned = True
                if item["encrypted_content"] != signature(item["id"]):
                    raise Refused("The encrypted content could not be verified.")
            case "function_call":
                calls.add(item["call_id"])
                if body.get("include") and not reasoned:
                    raise Refused("'function_call' was provided without its required 'reasoning' item")
                block = ToolCall(item["call_id"], item["name"], json.loads(item["arguments"]))
            case "function_call_output":
                role = Role.USER
                results.add(item["call_id"])
                block = ToolResult(item["call_id"], item["output"])
        blocks = (block,) if block else ()
        if messages and messages[-1].role is role:
            messages[-1] = Message(role, messages[-1].blocks + blocks)
        else:
            messages.append(Message(role, blocks))
    if calls != results:
        raise Refused(f"No tool output found for function calls {sorted(calls - results)}")
    return Request(body["instructions"], (), tuple(messages))


def application(vendor: Vendor) -> Starlette:
    routes = [("/v1/messages", vendor.messages), ("/v1/responses", vendor.responses)]
    return Starlette(routes=[Route(path, handler, methods=["POST"]) for path, handler in routes])


@dataclass(frozen=True)
class Wire:
    """A running server. `url` goes into ANTHROPIC_BASE_URL; OPENAI_BASE_URL and `openai/NAME@…` take `url` + "/v1"."""

    url: str
    vendor: Vendor

    @property
    def billing(self) -> Billing:
        return self.vendor.billing

    def env(self) -> dict[str, str]:
        """What `choose.make` needs to talk to this server."""
        return {
            "ANTHROPIC_API_KEY": "key",
            "ANTHROPIC_BASE_URL": self.url,
            "OPENAI_API_KEY": "key",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "ORCHESTRATOR_MODEL_IDLE_S": "300",  # so that a slow machine is not taken for a stalled vendor
        }


@contextmanager
def serve(
    script: Path,
    plan: Plan | None = None,
    log: Path | None = None,
    port: int = 0,
    retry_after: float = 0.2,
    arrivals: bool = False,
) -> Iterator[Wire]:
    """Serves in a thread until the block ends."""
    vendor = Vendor(Scripted(script), plan or Plan(), Billing(log), retry_after=retry_after, arrivals=arrivals)
    config = uvicorn.Config(application(vendor), port=port, log_level="critical", timeout_graceful_shutdown=1)
    # A connection that we closed while its client sends the next request would be a cut that no plan holds.
    config.timeout_keep_alive = 3600
    ready = threading.Event()

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Announcing(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    if not ready.wait(300) or not server.started:
        raise RuntimeError("the wire server did not start")
    try:
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield Wire(f"http://127.0.0.1:{bound}", vendor)
    finally:
        server.should_exit = True
        thread.join(20)
