"""One request, however many attempts it takes. Each is metered on its own, because each may cost money."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from agents.models.base import Fault, Model, ModelFailure, Reply, Request
from sandbox import faults

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 600.0


class OutOfMoney(Exception):
    """Raised by `Meter.reserve`: the budget does not hold this request at its worst case. Nothing was sent."""


class Meter(Protocol):
    """The ledger of one session's requests. What it is told is durable when the call returns."""

    async def reserve(self, request: Request) -> int:
        """Sets aside the attempt's worst case and returns the attempt's id. Raises `OutOfMoney`."""

    async def settle(self, attempt: int, reply: Reply) -> None: ...

    async def fail(self, attempt: int, failure: ModelFailure) -> None:
        """It costs nothing, or is `billed` and has no usage: then it stays at its worst case. `failure.partial` is for
        the record."""


OnWait = Callable[[str, float | None], Awaitable[None]]
"""Hears of each wait as it begins: why, and for how many seconds (None while it queues for its account's turn). When it
is over there is no reason."""


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
    failure: ModelFailure
    seen: Counter[Fault] = Counter()  # by fault: others in between do not use up one's tries
    doubling = wait_exponential(first_wait_s, LONGEST_WAIT_S)

    def enough(state: RetryCallState) -> bool:
        seen[failure.fault] += 1
        return failure.fault.tries is not None and seen[failure.fault] >= failure.fault.tries

    def pause(state: RetryCallState) -> float:
        """Seconds until the next attempt: what the vendor asked for and up to a tenth more, else doubling, half of it
        drawn, so that a whole team does not come back in the same second."""
        asked = failure.retry_after
        return doubling(state) * (0.5 + 0.5 * jitter()) if asked is None else asked + max(1.0, asked * 0.1) * jitter()

    async def sleep(seconds: float) -> None:
        await on_wait(str(failure), seconds)
        await anyio.sleep(seconds)
        await on_wait("", None)

    async def attempt() -> Reply:
        nonlocal failure
        if queued := limiter.available_tokens < 1:
            await on_wait("all requests this account may have at once are in flight", None)
        async with limiter:
            if queued:
                await on_wait("", None)
            number = await meter.reserve(request)
            try:
                reply = await model.reply(request)
            except BaseException as error:
                # A request that we end ourselves, the vendor may have worked on: it may be billed too.
                ours = ModelFailure(Fault.CUT, "we ended the request ourselves", began=True)
                failure = error if isinstance(error, ModelFailure) else ours
                with anyio.CancelScope(shield=True):
                    await meter.fail(number, failure)
                raise
            faults.at("reply-received")
            with anyio.CancelScope(shield=True):  # paid for, so written down before anything else can happen
                await meter.settle(number, reply)
            return reply

    again = retry_if_exception_type(ModelFailure)
    return await AsyncRetrying(retry=again, stop=enough, wait=pause, sleep=sleep, reraise=True)(attempt)
