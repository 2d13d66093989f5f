"""The ledger: every attempt at a model request is reserved at its worst case before it is sent (P6).

settled + reserved + in doubt + the new reservation never passes the budget. `Ledger`'s methods take the transaction
they belong to; a `SessionMeter` is what the turn loop holds.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agents.attempts import OutOfMoney
from agents.models.base import ModelFailure, Reply, Request, Usage
from orchestrator.prices import Prices
from orchestrator.records import Attempt, AttemptState
from orchestrator.store import Store, Tx, attempts, tasks
from orchestrator.store.attempts import RUN
from orchestrator.watch.render import money

SPENT: Final = "the {}'s budget is spent"  # how the refusal of a request begins, for "run" and "session"
WARN: Final = 0.8
DRAIN: Final = 0.05  # share of the run's budget that only a draining team may use
FRAME: Final = 1_000  # tokens that a vendor adds to a request: its own words about tools, roles, separators
EACH: Final = 16  # and for each message


@dataclass(frozen=True)
class Budget:
    """Micro-dollars. None is no limit: only for teams that cost nothing."""

    run: int | None = None
    session: int | None = None


def size(request: Request) -> dict[str, int]:
    """Measures a request in UTF-8 bytes, as JSON: no tokenizer makes more tokens of a text than it has bytes.

    Returns the bytes up to the end of each of its parts, by a digest of everything up to there; the last is all of it.
    """
    chain, total, ends = hashlib.sha256(), 0, {}
    for part in ([request.system, request.tools], *request.messages):
        data = json.dumps(part, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace")
        chain.update(hashlib.sha256(data).digest())
        total += len(data) + EACH
        ends[chain.hexdigest()] = total
    return ends


def _plain(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else vars(value)


class Ledger:
    """`budget` may be raised while the run works; `draining` opens the reserve that is set aside for the end."""

    def __init__(self, prices: Prices, budget: Budget) -> None:
        self.prices = prices
        self.budget = budget
        self.draining = False

    def reserve(
        self, tx: Tx, session: str, turn: int, model: str, request: Mapping[str, int], max_tokens: int
    ) -> Attempt:
        """Sets an attempt's worst case aside. Raises `OutOfMoney`, and `Unpriced` under a budget in money.

        `request` is its `size`. The worst case takes every byte for a token, save for what the session's last request
        held word for word, which the vendor has counted.
        """
        whole, total = list(request.items())[-1]
        counted = attempts.counted(tx.db, session, model, {end: total - so_far for end, so_far in request.items()})
        worst = self.prices.worst(model, FRAME + min(counted or total, total), max_tokens, tx.now)
        if worst is not None:
            kept = 0 if self.draining else int((self.budget.run or 0) * DRAIN)
            self._admit(tx, "run", RUN, worst, self.budget.run, kept)
            self._admit(tx, "session", session, worst, self.budget.session)
        elif self.budget != Budget():
            self.prices.check([model], tx.now)
        held, metered = tasks.claim_of(tx.db, session), not self.prices.unmetered(model)
        task = held.task if held else ""
        return attempts.add(tx, session, turn, task, model, worst, metered=metered, prefix=whole)

    def _admit(self, tx: Tx, scope: str, account: str, worst: int, limit: int | None, kept: int = 0) -> None:
        if limit is None or (used := attempts.account(tx.db, account).total) + worst <= limit - kept:
            return
        spent = f"{SPENT.format(scope)}: {money(used)} settled, reserved or in doubt of {money(limit - kept)}"
        draining = f", with {money(kept)} more kept for draining" if kept else ""
        raise OutOfMoney(f"{spent}{draining}; the next request may cost {money(worst)}")

    def settle(self, tx: Tx, attempt: int, usage: Usage, resolved: str) -> Attempt:
        """Books what the vendor counted, at the prices of the request's date."""
        asked = attempts.get(tx.db, attempt)
        cost = self.prices.cost(asked.model, usage, asked.at, resolved)
        settled = attempts.end(tx, attempt, AttemptState.SETTLED, cost=cost, usage=usage, resolved=resolved)
        self._warn(tx)
        return settled

    def doubt(self, tx: Tx, attempt: int, failure: str) -> Attempt:
        """The attempt may be billed and has no usage: its worst case counts as spent."""
        doubted = attempts.end(tx, attempt, AttemptState.IN_DOUBT, failure=failure)
        self._warn(tx)
        return doubted

    def free(self, tx: Tx, attempt: int, failure: str) -> Attempt:
        """The vendor refused before it worked on it: costs nothing."""
        return attempts.end(tx, attempt, AttemptState.FREE, cost=0, failure=failure)

    def recover(self, tx: Tx) -> list[int]:
        """At the start of an epoch: what an earlier process had in flight is in doubt. Returns those attempts."""
        lost = tx.all("SELECT id FROM attempt WHERE state = 'reserved' AND epoch < ? ORDER BY id", tx.epoch)
        return [self.doubt(tx, row["id"], "the process ended while it was in flight").id for row in lost]

    def spent_share(self, db: sqlite3.Connection, session: str) -> float:
        """How much of the session's budget is used, settled or in doubt; 0.0 without a budget."""
        return attempts.account(db, session).spent / self.budget.session if self.budget.session else 0.0

    def _warn(self, tx: Tx) -> None:
        """Journals `spent` once for each budget, when it is used up to `WARN`."""
        limit = self.budget.run
        if limit and (spent := attempts.account(tx.db, RUN).spent) >= WARN * limit:
            told = "SELECT 1 FROM journal WHERE kind = 'spent' AND json_extract(data, '$.micro') >= ?"
            if tx.one(told, WARN * limit) is None:
                tx.journal("spent", share=round(spent / limit, 3), micro=spent)


@dataclass(frozen=True)
class SessionMeter:
    """`agents.attempts.Meter` over the ledger: what it is told is durable when the call returns.

    `turn` is asked before each request; `also` runs in the settlement's transaction, so that a response and what it
    cost are stored as one.
    """

    ledger: Ledger
    store: Store
    session: str
    model: str
    turn: Callable[[], int]
    also: Callable[[Tx, Reply], None]

    async def reserve(self, request: Request) -> int:
        asked = (self.session, self.turn(), self.model, size(request), request.max_tokens)
        return await self.store.write(lambda tx: self.ledger.reserve(tx, *asked).id)

    async def settle(self, attempt: int, reply: Reply) -> None:
        def work(tx: Tx) -> None:
            self.ledger.settle(tx, attempt, reply.usage, reply.model)
            self.also(tx, reply)

        await self.store.write(work)

    async def fail(self, attempt: int, failure: ModelFailure) -> None:
        book = self.ledger.doubt if failure.billed else self.ledger.free
        words = f"{failure}\n{failure.partial}".strip()  # what had come is kept for the record, never acted on (P1)
        await self.store.write(lambda tx: book(tx, attempt, words))
