"""Both vendors' real SDKs over real HTTP against the local wire server."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from agents.models.anthropic import thinking
from agents.models.base import Fault as Failed
from agents.models.base import (
    Message,
    Model,
    ModelFailure,
    Opaque,
    Reply,
    Request,
    Role,
    Stop,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.agents.conftest import Models, Serving
from tests.agents.stage import until
from tests.wire.faults import UNTIMED, Fault, Plan

pytestmark = pytest.mark.anyio

OPENING = (
    "You are agent-01, a builder, in session 1 of this seat.\nTask: T7 parse numbers    Left for this session: 5 USD"
)
TOOLS = (
    ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}}),
    ToolSpec("view", "Look.", {"type": "object", "properties": {"path": {"type": "string"}}}),
)
SCRIPT = """
[[session]]
match = "T7*"
calls = [
  { tool = "shell", command = "echo {task} {}" },
  [ { tool = "view", path = "a" }, { tool = "view", path = "b" } ],
]
close = "All numbers parse."
"""
IDS = ["anthropic/claude-opus-4-6", "openai/gpt-5"]


def asked(*messages: Message) -> Request:
    return Request("You build.", TOOLS, (Message(Role.USER, (Text(OPENING),)), *messages), 4096)


def answered(reply: Reply, text: str = "fine") -> tuple[Message, Message]:
    results = tuple(ToolResult(call.id, text) for call in reply.calls)
    return Message(Role.ASSISTANT, reply.blocks), Message(Role.USER, results)


async def conversation(model: Model) -> list[Reply]:
    messages: list[Message] = []
    replies = [await model.reply(asked())]
    while replies[-1].calls:
        messages += answered(replies[-1])
        replies.append(await model.reply(asked(*messages)))
    return replies


@pytest.mark.parametrize("id", IDS)
async def test_text_one_tool_and_several_at_once_are_understood(serving: Serving, models: Models, id: str) -> None:
    first, second, last = await conversation(models(id, serving(SCRIPT).env()))
    assert [(call.name, call.arguments) for call in first.calls] == [("shell", {"command": "echo T7 {}"})]
    assert [call.arguments for call in second.calls] == [{"path": "a"}, {"path": "b"}]
    assert (first.stop, last.stop) == (Stop.TOOLS, Stop.END)
    assert [block.text for block in last.blocks if isinstance(block, Text)] == ["All numbers parse."]
    assert first.model.startswith(id.partition("/")[2] + "-2026")


@pytest.mark.parametrize("id", IDS)
async def test_reasoning_goes_back_unchanged(serving: Serving, models: Models, id: str) -> None:
    model = models(id, serving(SCRIPT).env())
    reply = await model.reply(asked())
    opaque = next(block for block in reply.blocks if isinstance(block, Opaque))
    await model.reply(asked(*answered(reply)))  # the server refuses reasoning that is missing or changed
    field = "signature" if "signature" in opaque.data else "encrypted_content"
    forged = tuple(Opaque(b.vendor, {**b.data, field: "x"}) if b is opaque else b for b in reply.blocks)
    with pytest.raises(ModelFailure) as failure:
        await model.reply(asked(Message(Role.ASSISTANT, forged), answered(reply)[1]))
    assert failure.value.fault is Failed.REJECTED


@pytest.mark.parametrize("id", IDS)
async def test_each_request_but_the_first_hits_the_cache(serving: Serving, models: Models, id: str) -> None:
    wire = serving(SCRIPT)
    first, second, last = [reply.usage for reply in await conversation(models(id, wire.env()))]
    assert first.cache_read == 0
    assert second.cache_read == first.cache_write_5m
    assert last.cache_read == second.cache_read + second.cache_write_5m


async def test_a_turn_longer_than_the_vendors_look_back_hits_the_cache(serving: Serving, models: Models) -> None:
    calls = ", ".join(f'{{ tool = "view", path = "{n}" }}' for n in range(24))
    model = models(IDS[0], serving(f'[[session]]\nmatch = "*"\ncalls = [[{calls}], [{calls}]]').env())
    first, second, _ = [reply.usage for reply in await conversation(model)]
    assert second.cache_read == first.cache_write_5m


async def test_what_anthropic_is_sent(serving: Serving, models: Models) -> None:
    wire = serving(SCRIPT)
    replies = await conversation(models(IDS[0], wire.env()))
    mark = {"type": "ephemeral", "ttl": "5m"}
    body = copy.deepcopy(wire.vendor.requests[2])
    messages = body.pop("messages")
    assert body == {
        "model": "claude-opus-4-6",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "You build.", "cache_control": mark}],
        "tools": [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in TOOLS],
        "thinking": {"type": "adaptive"},
        "stream": True,
    }
    assert [[block["type"] for block in message["content"]] for message in messages] == [
        ["text"],
        ["thinking", "tool_use"],
        ["tool_result"],
        ["thinking", "tool_use", "tool_use"],
        ["tool_result", "tool_result"],
    ]
    assert [[block.get("cache_control") for block in m["content"]] for m in messages if m["role"] == "user"] == [
        [None],
        [mark],
        [None, mark],
    ]
    call = replies[0].calls[0]
    assert messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": call.id, "content": "fine", "is_error": False, "cache_control": mark}
    ]


async def test_what_openai_is_sent(serving: Serving, models: Models) -> None:
    wire = serving(SCRIPT)
    replies = await conversation(models(IDS[1], wire.env()))
    body = copy.deepcopy(wire.vendor.requests[1])
    key = body.pop("prompt_cache_key")
    assert key == wire.vendor.requests[2]["prompt_cache_key"]
    assert body == {
        "model": "gpt-5",
        "instructions": "You build.",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": OPENING}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed(replies[0])},
            {
                "type": "function_call",
                "call_id": replies[0].calls[0].id,
                "name": "shell",
                "arguments": json.dumps({"command": "echo T7 {}"}),
            },
            {"type": "function_call_output", "call_id": replies[0].calls[0].id, "output": "fine"},
        ],
        "tools": [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
            for t in TOOLS
        ],
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 4096,
        "store": False,
        "stream": True,
    }


def sealed(reply: Reply) -> Any:
    return next(block.data["encrypted_content"] for block in reply.blocks if isinstance(block, Opaque))


async def test_another_server_is_sent_only_what_every_compatible_server_knows(serving: Serving, models: Models) -> None:
    wire = serving(SCRIPT)
    model = models(f"openai/qwen@{wire.url}/v1", {})
    assert [reply.stop for reply in await conversation(model)] == [Stop.TOOLS, Stop.TOOLS, Stop.END]
    assert not {"include", "prompt_cache_key"} & set(wire.vendor.requests[0])


@pytest.mark.parametrize("id", IDS)
async def test_usage_is_what_the_vendor_counted_by_kind(serving: Serving, models: Models, id: str) -> None:
    kinds = {"input": 11, "output": 7, "cache_read": 5, "cache_write_5m": 3}
    text = "[usage]\n" + "".join(f"{kind} = {n}\n" for kind, n in kinds.items())
    reply = await models(id, serving(text + SCRIPT).env()).reply(asked())
    assert {kind: getattr(reply.usage, kind) for kind in kinds} == kinds
    assert reply.raw_usage["output_tokens"] == 7


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("raw", ['{"command": "ec', "[1, 2]"])
async def test_arguments_that_are_not_an_object_are_the_models_mistake_not_a_crash(
    serving: Serving, models: Models, id: str, raw: str
) -> None:
    script = f'[[session]]\nmatch = "*"\ncalls = [{{ tool = "shell", raw = \'{raw}\' }}]'
    model = models(id, serving(script).env())
    reply = await model.reply(asked())
    assert "the arguments" in reply.calls[0].error
    assert not (await model.reply(asked(*answered(reply, "not run")))).calls


EXPECTED: Mapping[Fault, tuple[Failed, bool]] = {
    Fault.RATE_LIMIT: (Failed.RATE_LIMITED, False),
    Fault.OVERLOAD: (Failed.OVERLOADED, False),
    Fault.SERVER_ERROR: (Failed.SERVER_ERROR, True),
    Fault.OVERLOAD_IN_STREAM: (Failed.OVERLOADED, True),
    Fault.CUT: (Failed.CUT, True),
    Fault.BAD_JSON: (Failed.GARBLED, True),
}


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("fault", UNTIMED)
async def test_each_fault_is_named_priced_and_followed_by_a_working_request(
    serving: Serving, models: Models, id: str, fault: Fault
) -> None:
    model = models(id, serving(SCRIPT, Plan(first=[fault])).env())
    with pytest.raises(ModelFailure) as raised:
        await model.reply(asked())
    failure = raised.value
    assert (failure.fault, failure.billed) == EXPECTED[fault]
    assert failure.fault.tries != 1
    assert failure.retry_after == (0.2 if fault is Fault.RATE_LIMIT else None)
    assert (await model.reply(asked())).calls


@pytest.mark.parametrize("id", IDS)
async def test_a_stall_is_cut_and_stays_in_doubt(serving: Serving, models: Models, id: str) -> None:
    env = {**serving(SCRIPT, Plan(first=[Fault.STALL])).env(), "ORCHESTRATOR_MODEL_IDLE_S": "0.2"}
    with pytest.raises(ModelFailure) as raised:
        await models(id, env).reply(asked())
    assert (raised.value.fault, raised.value.billed) == (Failed.STALLED, True)


@pytest.mark.parametrize("id", IDS)
async def test_text_that_came_before_a_cut_is_kept_for_the_record(serving: Serving, models: Models, id: str) -> None:
    script = f'[[session]]\nrole = "builder"\nclose = "{"many words " * 4}"'
    model = models(id, serving(script, Plan(first=[Fault.CUT])).env())
    with pytest.raises(ModelFailure) as raised:
        await model.reply(asked())
    assert raised.value.partial.startswith("many words ")


@pytest.mark.parametrize("id", IDS)
async def test_no_server_is_unreachable_and_free(models: Models, id: str) -> None:
    env = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "OPENAI_API_KEY": "k"}
    with pytest.raises(ModelFailure) as raised:
        await models(id, {**env, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}).reply(asked())
    assert (raised.value.fault, raised.value.billed) == (Failed.UNREACHABLE, False)


@pytest.mark.parametrize("id", IDS)
async def test_a_request_that_breaks_the_rules_is_refused_for_good(serving: Serving, models: Models, id: str) -> None:
    orphan = Message(Role.ASSISTANT, (ToolCall("c9", "shell", {"command": "x"}),))
    with pytest.raises(ModelFailure) as raised:
        await models(id, serving(SCRIPT).env()).reply(asked(orphan, Message(Role.USER, (Text("and?"),))))
    assert raised.value.fault is Failed.REJECTED


@pytest.mark.parametrize("id", IDS)
async def test_a_cancelled_request_leaves_the_client_usable(serving: Serving, models: Models, id: str) -> None:
    wire = serving(SCRIPT, Plan(first=[Fault.STALL]))
    model = models(id, wire.env())
    async with anyio.create_task_group() as group:
        group.start_soon(model.reply, asked())
        await until(lambda: bool(wire.billing.of("cut")))  # it stalls
        group.cancel_scope.cancel()
    assert (await model.reply(asked())).calls


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("claude-3-5-haiku-latest", None),
        ("claude-3-7-sonnet-20250219", "enabled"),
        ("claude-opus-4-20250514", "enabled"),
        ("claude-sonnet-4-5-20250929", "enabled"),
        ("claude-opus-4-6", "adaptive"),
        ("claude-opus-5", "adaptive"),
        ("claude-mythos-preview", None),
    ],
)
def test_thinking_is_asked_for_as_each_generation_takes_it(name: str, kind: str | None) -> None:
    assert thinking(name, 16_000).get("thinking", {}).get("type") == kind
