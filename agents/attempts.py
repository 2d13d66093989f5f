"""One request, however many attempts it takes. Each is metered on its own, because each may cost money."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from agents.models.base import Model, Reply, Request
from agents.models.failures import Billed, Fault, ModelFailure

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 600.0


class OutOfMoney(Exception):
    """Raised by `Meter.reserve`: the budget does not hold this request at its worst case. Nothing was sent."""


class Meter(Protocol):
    """The ledger of one session's requests. What it is told is durable when the call returns."""

    async def reserve(self, request: Request) -> int:
        """Sets aside the attempt's worst case and returns the attempt's id. Raises `OutOfMoney`."""
        ...

    async def settle(self, attempt: int, reply: Reply) -> None: ...

    async def doubt(self, attempt: int, failure: ModelFailure) -> None:
        """It may be billed and has no usage: it stays at its worst case. `failure.partial` is for the record."""
        ...

    async def free(self, attempt: int, failure: ModelFailure) -> None: ...


@dataclass(frozen=True)
class Wait:
    """Why a session is waiting, and for how long: `seconds` is None while it queues for its account's turn."""

    model: str
    reason: str
    seconds: float | None
    attempt: int  # how many were made


OnWait = Callable[[Wait | None], Awaitable[None]]
"""Hears of each wait as it begins, and None when it is over."""


async def ask(
    model: Model,
    request: Request,
    meter: Meter,
    limiter: anyio.CapacityLimiter,
    on_wait: OnWait,
    jitter: Callable[[], float] = random.random,
    first_wait_s: float = FIRST_WAIT_S,
) -> Reply:
    """Asks until there is a complete reply, a fault that trying again does not mend, or too many tries for its kind.

    Raises `ModelFailure` (the last one) and what `Meter.reserve` raises. `limiter` is the account's: held only while a
    request is in flight, so that waiting seats do not starve the others.
    """

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        await on_wait(None)

    async def announce(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        await on_wait(Wait(model.id, str(_failure(state)), seconds, state.attempt_number))

    retrying = AsyncRetrying(
        sleep=sleep,
        retry=retry_if_exception(lambda error: isinstance(error, ModelFailure) and error.policy.retry),
        stop=_Patience(),
        wait=lambda state: _pause(state, first_wait_s, jitter()),
        before_sleep=announce,
        reraise=True,
    )
    return await retrying(_attempt, model, request, meter, limiter, on_wait)


async def _attempt(
    model: Model, request: Request, meter: Meter, limiter: anyio.CapacityLimiter, on_wait: OnWait
) -> Reply:
    if limiter.available_tokens < 1:
        await on_wait(Wait(model.id, "all requests this account may have at once are in flight", None, 0))
        async with limiter:
            await on_wait(None)
            return await _metered(model, request, meter)
    async with limiter:
        return await _metered(model, request, meter)


async def _metered(model: Model, request: Request, meter: Meter) -> Reply:
    attempt = await meter.reserve(request)
    try:
        reply = await model.reply(request)
    except ModelFailure as failure:
        with anyio.CancelScope(shield=True):
            await (meter.doubt if failure.billed is Billed.IN_DOUBT else meter.free)(attempt, failure)
        raise
    except anyio.get_cancelled_exc_class():
        # The vendor may have worked on it: what we no longer want may still be billed.
        with anyio.CancelScope(shield=True):
            await meter.doubt(attempt, ModelFailure(Fault.CUT, "we ended the request ourselves", began=True))
        raise
    with anyio.CancelScope(shield=True):  # paid for, so written down before anything else can happen
        await meter.settle(attempt, reply)
    return reply


class _Patience:
    """Stops when one fault has come as often as its policy allows; other faults in between do not use up its tries."""

    def __init__(self) -> None:
        self._seen: dict[Fault, int] = {}

    def __call__(self, state: RetryCallState) -> bool:
        failure = _failure(state)
        self._seen[failure.fault] = self._seen.get(failure.fault, 0) + 1
        tries = failure.policy.tries
        return tries is not None and self._seen[failure.fault] >= tries


def _failure(state: RetryCallState) -> ModelFailure:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ModelFailure)  # nothing else is retried
    return error


def _pause(state: RetryCallState, first_wait_s: float, jitter: float) -> float:
    """Seconds until the next attempt: what the vendor asked for and up to a tenth more, else doubling, half of it
    drawn, so that a whole team does not come back in the same second."""
    asked = _failure(state).retry_after
    if asked is not None:
        return asked + max(1.0, asked * 0.1) * jitter
    doubled = min(LONGEST_WAIT_S, first_wait_s * 2.0 ** min(state.attempt_number - 1, 30))
    return doubled * (0.5 + 0.5 * jitter)
