"""What both vendors' SDKs share: how a stream is read without trusting it to end, and how their errors become ours.

The SDKs are generated from one template, so their exceptions have the same shape under different names; they are
read by that shape here. Neither SDK is imported: that is the adapters' business, when they are chosen.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2

from agents.models.base import ToolCall
from agents.models.failures import Fault, ModelFailure, fault_of

# Reasoning models are silent for minutes before their first token, and a stall that is cut is paid for.
IDLE_S = 600.0

# What the HTTP client under an SDK raises in mid-request. `ValueError` is bad JSON, the others JSON of a wrong shape.
WIRE_ERRORS = (httpx2.HTTPError, httpx2.StreamError, ValueError, TypeError, KeyError, AttributeError)


async def events(stream: AsyncIterator[Any], idle_s: float) -> AsyncIterator[dict[str, Any]]:
    """Yields each event as plain data. Raises `TimeoutError` when none came for `idle_s` seconds."""
    iterator = aiter(stream)
    while True:
        try:
            with anyio.fail_after(idle_s):
                event = await anext(iterator)
        except StopAsyncIteration:
            return
        yield event if isinstance(event, dict) else event.to_dict(mode="json", exclude_unset=True)


def failure_of(error: Exception, *, began: bool, partial: str = "") -> ModelFailure:
    """Our failure for what an SDK raised. `began`: response headers had come, so the vendor may bill."""
    if isinstance(error, ModelFailure):
        return error
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    if isinstance(error, TimeoutError):
        return ModelFailure(Fault.STALLED, "nothing came for too long", began=True, partial=partial)
    if isinstance(status, int) or isinstance(body, dict):
        return refusal(status or 200, body, str(error), _retry_after(error), began=began, partial=partial)
    for cause in (error, error.__cause__):
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
            return ModelFailure(Fault.UNREACHABLE, str(cause) or "no connection", partial=partial)
        if isinstance(cause, httpx2.HTTPError | httpx2.StreamError):
            return ModelFailure(Fault.CUT, str(cause) or type(cause).__name__, began=True, partial=partial)
    # Without body or cause: the SDK gave up on what it read (bad JSON, bad event order).
    return ModelFailure(Fault.GARBLED, str(error)[:500], began=True, partial=partial)


def refusal(
    status: int, body: object, message: str, retry_after: float | None, *, began: bool, partial: str = ""
) -> ModelFailure:
    """The failure for an error that the vendor put in words. `body` is its JSON: `{"error": {…}}` or the inner part."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    words = error if isinstance(error, dict) else {}
    text = str(words.get("message") or message)[:500]
    codes = tuple(str(words[key]) for key in ("code", "type") if words.get(key))
    return ModelFailure(fault_of(status, codes, text), text, began=began, retry_after=retry_after, partial=partial)


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", {})
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def tool_call(id: str, name: str, text: str) -> ToolCall:
    """A call from the JSON text a model wrote. Text that is not an object is the model's mistake, and told to it."""
    try:
        arguments = json.loads(text or "{}")
    except ValueError as problem:
        return ToolCall(id, name, {}, f"the arguments are not JSON: {problem}")
    if not isinstance(arguments, dict):
        return ToolCall(id, name, {}, f"the arguments must be a JSON object, not {type(arguments).__name__}")
    return ToolCall(id, name, arguments)
