"""The ledger: every attempt at a model request is reserved at its worst case before it is sent (P6).

settled + reserved + in doubt + the new reservation never passes the budget. `Ledger`'s methods take the transaction
they belong to; a `SessionMeter` is what the turn loop holds.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agents.attempts import OutOfMoney
from agents.models.base import ModelFailure, Reply, Request, Usage
from orchestrator.board import claim_of
from orchestrator.prices import Prices, unmetered
from orchestrator.records import AttemptState
from orchestrator.store import Store, Tx, rows
from orchestrator.watch.render import money
from sandbox import faults

SPENT: Final = "the {}'s budget is spent"  # how the refusal of a request begins, for "run" and "session"
RUN: Final = ""  # the account of the whole run; every other is a session's
WARN: Final = 0.8
DRAIN: Final = 0.05  # share of the run's budget that only a draining team may use
FRAME: Final = 1_000  # tokens that a vendor adds to a request: its own words about tools, roles, separators
EACH: Final = 16  # and for each message
LATE: Final = 4  # requests back that are looked at for what the vendor has counted


def account(db: sqlite3.Connection, scope: str = RUN) -> Counter[str]:
    """Micro-dollars by the state of their attempts. What is set aside or in doubt counts as spent (P6)."""
    if scope == RUN:
        return Counter(dict(db.execute("SELECT state, amount FROM spending WHERE amount > 0")))
    return Counter(
        dict(db.execute("SELECT state, sum(amount) FROM attempt WHERE session = ? GROUP BY state", (scope,)))
    )


def spent(db: sqlite3.Connection, scope: str = RUN) -> int:
    """All but what is in flight."""
    used = account(db, scope)
    return used.total() - used[AttemptState.RESERVED]


@dataclass
class Ruler:
    """Measures one session's requests. What the last one was made of, and this one begins with, is not read again: in a
    long session that is nearly all."""

    _parts: list[object] = field(default_factory=list)
    _chain: Any = field(default_factory=hashlib.sha256)
    _ends: dict[str, int] = field(default_factory=dict)

    def size(self, request: Request) -> dict[str, int]:
        """Measures a request in UTF-8 bytes, as JSON: no tokenizer makes more tokens of a text than it has bytes.

        Returns the bytes up to the end of each of its parts, by a digest of everything up to there; the last is all of
        it. Good until the next call.
        """
        parts = [request.system, request.tools, *request.messages]
        if parts[: len(self._parts)] != self._parts:
            self._parts, self._chain, self._ends = [], hashlib.sha256(), {}
        total = next(reversed(self._ends.values()), 0)
        for part in parts[len(self._parts) :]:
            data = json.dumps(part, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace")
            self._chain.update(hashlib.sha256(data).digest())
            total += len(data) + EACH
            self._ends[self._chain.hexdigest()] = total
        self._parts = parts
        return self._ends


def _plain(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else vars(value)


def _counted(db: sqlite3.Connection, session: str, model: str, request: Mapping[str, int], total: int) -> int:
    """The input tokens that the vendor counted for a request that this one begins with, and a token a byte since; 0
    when no late request fits."""
    sql = "SELECT prefix, usage FROM attempt WHERE session = ? AND model = ? AND state = 'settled'"
    for row in db.execute(f"{sql} ORDER BY id DESC LIMIT {LATE}", (session, model)):
        if row["prefix"] in request:
            usage = Usage(**json.loads(row["usage"]))
            seen = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
            return seen + total - request[row["prefix"]]
    return 0


@dataclass
class Ledger:
    """Budgets in micro-dollars; None is no limit: only for teams that cost nothing. `budget`, the run's, may be raised
    while the run works; `draining` opens the reserve that is set aside for the end."""

    prices: Prices
    budget: int | None = None
    session_budget: int | None = None
    draining: bool = False

    def reserve(self, tx: Tx, session: str, turn: int, model: str, request: dict[str, int], max_tokens: int) -> int:
        """Sets an attempt's worst case aside and returns the attempt's id, numbered within its turn. Raises
        `OutOfMoney`, and `Refusal` of a model without a price under a budget in money.

        `request` is its `Ruler.size`. The worst case takes every byte for a token, save for what the session's last
        request held word for word, which the vendor has counted.
        """
        prefix, total = next(reversed(request.items()))
        tokens = min(_counted(tx.db, session, model, request, total) or total, total)
        worst = self.prices.worst(model, FRAME + tokens, max_tokens, tx.now)
        if worst is not None:
            kept = 0 if self.draining else int((self.budget or 0) * DRAIN)
            self._admit(tx, "run", RUN, worst, self.budget, kept)
            self._admit(tx, "session", session, worst, self.session_budget)
        elif (self.budget, self.session_budget) != (None, None):
            self.prices.check([model], tx.now)
        held = claim_of(tx.db, session)
        number = rows.next_number(tx, "attempt", "WHERE session = ? AND turn = ?", session, turn)
        asked = {"session": session, "turn": turn, "number": number, "task": held.task if held else "", "model": model}
        counts = {"reserved": worst, "metered": not unmetered(model), "prefix": prefix}
        return rows.put(tx, "attempt", epoch=tx.epoch, at=tx.now, state=AttemptState.RESERVED, **asked, **counts)

    def _admit(self, tx: Tx, scope: str, of: str, worst: int, limit: int | None, kept: int = 0) -> None:
        if limit is None or (used := account(tx.db, of).total()) + worst <= limit - kept:
            return
        words = f"{SPENT.format(scope)}: {money(used)} settled, reserved or in doubt of {money(limit - kept)}"
        draining = f", with {money(kept)} more kept for draining" if kept else ""
        raise OutOfMoney(f"{words}{draining}; the next request may cost {money(worst)}")

    def settle(self, tx: Tx, attempt: int, usage: Usage, resolved: str) -> None:
        """Books what the vendor counted, at the prices of the request's date."""
        (asked,) = tx.db.execute("SELECT model, at FROM attempt WHERE id = ?", (attempt,))
        cost = self.prices.cost(asked["model"], usage, datetime.fromisoformat(asked["at"]), resolved)
        counts = json.dumps(vars(usage), sort_keys=True)
        self._end(tx, attempt, AttemptState.SETTLED, cost=cost, usage=counts, resolved=resolved)

    def doubt(self, tx: Tx, attempt: int, failure: str) -> None:
        """The attempt may be billed and has no usage: its worst case counts as spent."""
        self._end(tx, attempt, AttemptState.IN_DOUBT, failure=failure)

    def free(self, tx: Tx, attempt: int, failure: str) -> None:
        """The vendor refused before it worked on it: costs nothing."""
        self._end(tx, attempt, AttemptState.FREE, cost=0, failure=failure)

    def recover(self, tx: Tx) -> list[int]:
        """At the start of an epoch: what an earlier process had in flight is in doubt. Returns those attempts."""
        sql = "SELECT id FROM attempt WHERE state = 'reserved' AND epoch < ? ORDER BY id"
        lost = [row["id"] for row in tx.db.execute(sql, (tx.epoch,))]
        for attempt in lost:
            self.doubt(tx, attempt, "the process ended while it was in flight")
        return lost

    def spent_share(self, db: sqlite3.Connection, session: str) -> float:
        """How much of the session's budget is used, settled or in doubt; 0.0 without a budget."""
        return spent(db, session) / self.session_budget if self.session_budget else 0.0

    def _end(self, tx: Tx, attempt: int, state: AttemptState, **facts: object) -> None:
        """Ends a reserved attempt, once: a second end raises `KeyError`. Journals `spent` once for each budget, when it
        is used up to `WARN`."""
        fields = " = ?, ".join({"state": state, **facts})
        sql = f"UPDATE attempt SET {fields} = ? WHERE id = ? AND state = 'reserved'"
        if tx.run(sql, state, *facts.values(), attempt) != 1:
            raise KeyError(f"attempt {attempt} has already ended")
        if self.budget and (used := spent(tx.db)) >= WARN * self.budget:
            told = "SELECT 1 FROM journal WHERE kind = 'spent' AND json_extract(data, '$.micro') >= ?"
            if tx.one(told, WARN * self.budget) is None:
                tx.journal("spent", share=round(used / self.budget, 3), micro=used)


@dataclass(frozen=True)
class SessionMeter:
    """`agents.attempts.Meter` over the ledger: what it is told is durable when the call returns.

    `also` runs in the settlement's transaction, so that a response and what it cost are stored as one.
    """

    ledger: Ledger
    store: Store
    session: str
    model: str
    turn: int
    also: Callable[[Tx, Reply], None]
    ruler: Ruler = field(default_factory=Ruler)

    async def reserve(self, request: Request) -> int:
        asked = (self.session, self.turn, self.model, self.ruler.size(request), request.max_tokens)
        attempt = await self.store.write(lambda tx: self.ledger.reserve(tx, *asked))
        faults.at("attempt-reserved")
        return attempt

    async def settle(self, attempt: int, reply: Reply) -> None:
        def work(tx: Tx) -> None:
            self.ledger.settle(tx, attempt, reply.usage, reply.model)
            self.also(tx, reply)

        await self.store.write(work)

    async def fail(self, attempt: int, failure: ModelFailure) -> None:
        book = self.ledger.doubt if failure.billed else self.ledger.free
        words = f"{failure}\n{failure.partial}".strip()  # what had come is kept for the record, never acted on (P1)
        await self.store.write(lambda tx: book(tx, attempt, words))
