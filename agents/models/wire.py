"""What both vendors' SDKs share: how a stream is read without trusting it to end, and how their errors become ours.

The SDKs are generated from one template, so their exceptions have the same shape under different names; they are
read by that shape here. Neither SDK nor the HTTP client under it is imported: that is the adapters' business, when they
are chosen.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from agents.models.base import Fault, ModelFailure, Reply, Request, ToolCall, fault_of

# Reasoning models are silent for minutes before their first token, and a stall that is cut is paid for.
IDLE_S = 600.0

NO_CONNECTION = ("ConnectError", "ConnectTimeout", "PoolTimeout")  # of the HTTP client: nothing was sent


Event = Mapping[str, Any]


@dataclass
class Vendor:
    """A `Model` behind an SDK's client: how it is asked, and how the events that come are read.

    `read` raises `ModelFailure` for an answer that is an error, and `EOFError` for one that ended early; what else it
    raises means data of a wrong shape.
    """

    window: int
    client: Any
    create: Callable[..., Awaitable[Any]]
    body: Callable[[Request], Mapping[str, Any]]
    read: Callable[[Sequence[Event]], Reply]
    idle_s: float

    async def reply(self, request: Request) -> Reply:
        """Asks, and takes events none of which comes later than `idle_s` seconds after the one before (on the clock
        that tests can simulate; the SDKs' own timeouts are off). Raises `ModelFailure` alone."""
        began, events = False, list[Event]()  # once headers have come, the vendor may bill
        try:
            with anyio.fail_after(self.idle_s):
                response = await self.create(**self.body(request))
            began = True
            async with response:
                coming = aiter(response)
                while True:
                    with anyio.fail_after(self.idle_s):
                        event = await anext(coming, None)
                    if event is None:
                        return self.read(events)
                    events.append(event if isinstance(event, dict) else event.to_dict(mode="json", exclude_unset=True))
        except Exception as error:
            raise replace(_failure_of(error), began=began, partial="".join(map(_words, events))) from error

    async def close(self) -> None:
        await self.client.close()


def _words(event: Event) -> str:
    """What an event adds to the answer's text, at either vendor."""
    delta = event.get("delta")
    if isinstance(delta, dict):
        return str(delta.get("text", ""))
    return str(delta) if event["type"] == "response.output_text.delta" else ""


def _failure_of(error: Exception) -> ModelFailure:
    """Our failure for what an SDK or `read` raised."""
    if isinstance(error, ModelFailure):
        return error
    if isinstance(error, TimeoutError):
        return ModelFailure(Fault.STALLED, "nothing came for too long")
    if isinstance(error, EOFError):
        return ModelFailure(Fault.CUT, "the stream ended before the reply did")
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    if isinstance(status, int) or isinstance(body, dict):
        return refusal(body, status or 200, str(error), _retry_after(error))
    for cause in (error, error.__cause__):
        if type(cause).__module__.startswith("httpx"):
            fault = Fault.UNREACHABLE if type(cause).__name__ in NO_CONNECTION else Fault.CUT
            return ModelFailure(fault, str(cause) or type(cause).__name__)
    # Bad JSON, JSON of a wrong shape, events in a wrong order.
    return ModelFailure(Fault.GARBLED, f"{type(error).__name__}: {error}"[:500])


def refusal(body: object, status: int = 200, message: str = "", retry_after: float | None = None) -> ModelFailure:
    """The failure for an error that the vendor put in words. `body` is its JSON: `{"error": {…}}` or the inner part."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    words = error if isinstance(error, dict) else {}
    text = str(words.get("message") or message)[:500]
    codes = tuple(str(words[key]) for key in ("code", "type") if words.get(key))
    return ModelFailure(fault_of(status, codes, text), text, retry_after)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if re.fullmatch(r"\d+(\.\d+)?", headers.get(name, "")):  # else it is a date, which we do not read
            return float(headers[name]) * unit
    return None


def tool_call(id: str, name: str, text: str) -> ToolCall:
    """A call from the JSON text a model wrote. Text that is not an object is the model's mistake, and told to it."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError) as problem:
        return ToolCall(id, name, {}, f"the arguments are not JSON: {problem}")
    if not isinstance(arguments, dict):
        return ToolCall(id, name, {}, f"the arguments must be a JSON object, not {type(arguments).__name__}")
    return ToolCall(id, name, arguments)
