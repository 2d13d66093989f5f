from __future__ import annotations

import math
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents.attempts import Meter, OutOfMoney
from agents.models.base import (
    Fault,
    Message,
    ModelFailure,
    Reply,
    Request,
    Role,
    Stop,
    Text,
    ToolResult,
    ToolSpec,
    Usage,
)
from agents.models.scripted import Price
from orchestrator.control import Refusal
from orchestrator.ledger import Ledger, Ruler, SessionMeter, account
from orchestrator.prices import Prices, _micro, _rates, _usd, load
from orchestrator.project.reading import ConfigError
from orchestrator.records import AttemptState, Session, SessionState
from orchestrator.store import Store, Tx, sessions
from orchestrator.store.store import migrate
from orchestrator.watch import queries

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
OPUS = "anthropic/claude-opus-4-6"
TEAM = "scripted:team.toml"
ONE = Decimal(1)
DECLARED = Price(input=ONE, output=ONE)
SCRIPTED = Prices({TEAM: DECLARED}, {TEAM: Usage(input=60_000, output=40_000)})  # ten cents a request
CENTS = 10_000  # micro-dollars


def memory() -> Tx:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    migrate(db)
    return Tx(db, 1, NOW)


def ledger(prices: Prices, run: int | None = None, session: int | None = None) -> Ledger:
    return Ledger(prices, run, session)


def stored(db: sqlite3.Connection, attempt: int) -> Any:
    return db.execute("SELECT * FROM attempt WHERE id = ?", (attempt,)).fetchone()


def asked(*texts: str, tools: int = 0) -> Request:
    specs = tuple(ToolSpec(f"tool{n}", "what it does", {"type": "object"}) for n in range(tools))
    return Request("system", specs, tuple(Message(Role.USER, (Text(text),)) for text in texts), max_tokens=100)


# Prices


def test_every_kind_is_priced_by_vendor_model_and_lifetime() -> None:
    usage = Usage(input=1_000_000, output=100_000, cache_read=1_000_000, cache_write_5m=100_000, cache_write_1h=100_000)
    assert Prices().cost(OPUS, usage, NOW) == 5_000_000 + 2_500_000 + 500_000 + 625_000 + 1_000_000
    assert Prices().cost("openai/gpt-5@http://localhost:1/v1", Usage(input=1_000_000), NOW) == 1_250_000
    assert Prices().cost("openai/any", Usage(input=1_000_000), NOW, "gpt-5-2025-08-07") == 1_250_000


def test_long_requests_are_priced_at_their_tier() -> None:
    model = "anthropic/claude-sonnet-4-5"
    short, long = Prices().cost(model, Usage(input=200_000), NOW), Prices().cost(model, Usage(input=200_001), NOW)
    assert (short, long) == (600_000, 1_200_006)


def test_a_fraction_of_a_micro_dollar_is_rounded_up() -> None:
    assert Prices().cost("openai/gpt-5", Usage(input=1), NOW) == 2


def test_tiers_for_long_requests_only_rise_which_the_worst_case_counts_on() -> None:
    models = [model for provider in get_snapshot().providers for model in provider.models]
    prices = [m.prices if isinstance(m.prices, ModelPrice) else m.prices[0].prices for m in models]
    tiered = [value for price in prices for value in vars(price).values() if isinstance(value, TieredPrices)]
    steps = [[value.base, *(tier.price for tier in value.tiers)] for value in tiered]
    assert steps and all(step == sorted(step) for step in steps)


def test_an_unknown_price_is_none_and_refuses_a_money_budget_in_words() -> None:
    unknown = "openai/qwen3-coder@http://localhost:8000/v1"
    assert Prices().cost(unknown, Usage(input=5), NOW) is None and Prices().worst(unknown, 5, 5, NOW) is None
    Prices().check([OPUS, "open", "recorded", "recorded:x"], NOW)
    with pytest.raises(Refusal, match=r"no price is known for openai/qwen3-coder@.*--prices FILE"):
        Prices().check([OPUS, unknown], NOW)
    with pytest.raises(Refusal):
        Prices().check([TEAM], NOW)
    with pytest.raises(Refusal):
        ledger(Prices(), run=10**9).reserve(memory(), "agent-01/1", 1, unknown, Ruler().size(asked("x")), 100)
    tx = memory()
    without = ledger(Prices()).reserve(tx, "agent-01/1", 1, unknown, Ruler().size(asked("x")), 100)
    assert stored(tx.db, without)["reserved"] is None


def test_declared_prices_go_before_the_table(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f'["openai/qwen3-coder"]\ninput = 0.3\noutput = 1.2\n["{OPUS}"]\ninput = 1\noutput = 2\n')
    prices = Prices(load(file))
    asked_at = "openai/qwen3-coder@http://localhost:8000/v1"
    assert prices.cost(asked_at, Usage(input=1_000, output=1_000), NOW, "Qwen/Qwen3-Coder-480B") == 300 + 1_200
    assert prices.cost(OPUS, Usage(input=10, cache_read=10, cache_write_1h=10), NOW) == 30
    file.write_text('["x/y"]\ninput = -1\noutput = 1\n')
    with pytest.raises(ConfigError, match=r"prices\.toml:2: x/y\.input must be greater than or equal to 0 \(got -1\)"):
        load(file)
    file.write_text('["x/y"]\ninput = 1\noutptu = 1\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).splitlines() == [
        f"{file}:1: x/y.output is required",
        f"{file}:3: x/y.outptu is not a key of this version; did you mean x/y.output?",
    ]
    file.write_text("input =")
    for wrong in (file, tmp_path / "none.toml"):
        with pytest.raises(ConfigError, match=wrong.name):
            load(wrong)


@given(
    split=st.lists(st.integers(0, 300_000), min_size=4, max_size=4),
    output=st.integers(0, 64_000),
    model=st.sampled_from([OPUS, "anthropic/claude-sonnet-4-5", "openai/gpt-5"]),
)
def test_the_worst_case_is_above_every_split_of_the_tokens(split: list[int], output: int, model: str) -> None:
    prices = Prices()
    usage = Usage(split[0], output, split[1], split[2], split[3])
    cost, worst = prices.cost(model, usage, NOW), prices.worst(model, sum(split), output, NOW)
    assert cost is not None and worst is not None and cost <= worst


# Sizes


def weighed(request: Request) -> int:
    return max(Ruler().size(request).values())


def test_a_request_is_measured_in_bytes_of_everything_that_is_sent() -> None:
    text = "añ\n" * 1000
    assert weighed(asked(text)) >= len(text.encode())
    assert weighed(asked("x", tools=3)) > weighed(asked("x")) + 3 * len("what it does")
    assert weighed(Request("", (), (Message(Role.USER, (ToolResult("c", "\udc80" * 50),)),))) >= 50


def test_what_the_last_request_held_word_for_word_counts_as_the_vendor_counted_it() -> None:
    tx, books = memory(), ledger(Prices())
    long = "word " * 20_000

    def worst(session: str, *texts: str) -> int:
        return int(stored(tx.db, books.reserve(tx, session, 2, OPUS, Ruler().size(asked(*texts)), 100))["reserved"])

    first = books.reserve(tx, "agent-01/1", 1, OPUS, Ruler().size(asked(long)), 100)
    whole = stored(tx.db, first)["reserved"]
    books.settle(tx, first, Usage(input=10, cache_write_5m=21_000), "claude-opus-4-6")
    grown = worst("agent-01/1", long, "more")
    assert whole and grown < whole / 3 and worst("agent-01/1", "changed " + long, "more") > whole
    least = Prices().cost(OPUS, Usage(cache_write_1h=21_010 + len("more"), output=100), NOW)
    assert least is not None and grown >= least
    assert worst("agent-02/1", long, "more") > whole


# The books


def spend(books: Ledger, tx: Tx, session: str = "agent-01/1") -> None:
    attempt = books.reserve(tx, session, 1, TEAM, Ruler().size(asked("x")), 100)
    books.settle(tx, attempt, Usage(input=60_000, output=40_000), TEAM)


def test_a_budget_of_a_dollar_is_never_passed_and_keeps_a_reserve_for_draining() -> None:
    tx, books = memory(), ledger(SCRIPTED, run=100 * CENTS)
    for _ in range(9):
        spend(books, tx)
    with pytest.raises(OutOfMoney, match=r"^the run's budget is spent: \$0.90 .* of \$0.95, .* for draining"):
        spend(books, tx)
    books.draining = True
    spend(books, tx)
    with pytest.raises(OutOfMoney):
        spend(books, tx)
    assert account(tx.db).total() == 100 * CENTS
    books.budget, books.draining = 200 * CENTS, False
    spend(books, tx)


def test_a_session_has_a_budget_of_its_own() -> None:
    tx, books = memory(), ledger(SCRIPTED, session=20 * CENTS)
    spend(books, tx)
    assert books.spent_share(tx.db, "agent-01/1") == 0.5
    spend(books, tx)
    with pytest.raises(OutOfMoney, match=r"^the session's budget is spent"):
        spend(books, tx)
    spend(books, tx, "agent-02/1")


def test_what_ended_without_usage_stays_at_its_worst_case_and_what_was_refused_costs_nothing() -> None:
    tx, books = memory(), ledger(SCRIPTED, run=100 * CENTS)
    cut = books.reserve(tx, "agent-01/1", 1, TEAM, Ruler().size(asked("x")), 100)
    refused = books.reserve(tx, "agent-01/1", 1, TEAM, Ruler().size(asked("x")), 100)
    assert [stored(tx.db, attempt)["number"] for attempt in (cut, refused)] == [1, 2]
    books.doubt(tx, cut, "stream cut")
    books.free(tx, refused, "429")
    assert stored(tx.db, refused)["cost"] == 0
    assert account(tx.db) == Counter({AttemptState.IN_DOUBT: 10 * CENTS})
    with pytest.raises(KeyError, match="already ended"):
        books.settle(tx, cut, Usage(), TEAM)


def test_what_a_dead_process_had_in_flight_is_in_doubt() -> None:
    tx, books = memory(), ledger(SCRIPTED, run=100 * CENTS)
    lost = books.reserve(tx, "agent-01/1", 1, TEAM, Ruler().size(asked("x")), 100)
    assert books.recover(tx) == []
    later = Tx(tx.db, 2, NOW)
    assert books.recover(later) == [lost] and books.recover(later) == []
    assert stored(tx.db, lost)["state"] == AttemptState.IN_DOUBT
    assert account(tx.db) == {AttemptState.IN_DOUBT: 10 * CENTS}


def warnings(tx: Tx) -> int:
    return len(tx.db.execute("SELECT 1 FROM journal WHERE kind = 'spent'").fetchall())


def test_the_run_is_warned_once_for_each_budget() -> None:
    tx, books = memory(), ledger(SCRIPTED, run=100 * CENTS)
    counts = []
    for _ in range(9):
        spend(books, tx)
        counts.append(warnings(tx))
    assert counts == [0] * 7 + [1, 1]
    books.budget = 125 * CENTS
    spend(books, tx)
    assert warnings(tx) == 2


def test_open_and_recorded_seats_are_outside_the_budget_and_shown_as_unmetered() -> None:
    tx, books = memory(), ledger(Prices(), run=1)
    for model in ("open", "recorded"):
        attempt = books.reserve(tx, "agent-01/1", 1, model, Ruler().size(asked("x")), 100)
        books.settle(tx, attempt, Usage(input=5), model)
        assert stored(tx.db, attempt)["cost"] is None
    found = queries.cost(tx.db, "model")
    assert [(row["model"], row["spent_usd"], row["requests"]) for row in found["rows"]] == [
        ("open", None, 1),
        ("recorded", None, 1),
    ]
    assert (found["unpriced"], account(tx.db).total()) == (0, 0)


def test_costs_add_up_by_every_key_and_unknown_prices_are_counted_not_priced() -> None:
    tx, books = memory(), ledger(SCRIPTED)
    for seat, role in (("agent-01", "builder"), ("agent-02", "planner")):
        sessions.start(tx, Session(f"{seat}/1", seat, 1, role, TEAM, SessionState.ACTIVE, NOW, "base"))
    spend(books, tx)
    spend(books, tx)
    spend(books, tx, "agent-02/1")
    unknown = books.reserve(tx, "agent-02/1", 2, "openai/unheard-of", Ruler().size(asked("x")), 100)
    books.settle(tx, unknown, Usage(input=7), "unheard-of-2")
    roles = {row["role"]: row["spent_usd"] for row in queries.cost(tx.db, "role")["rows"]}
    assert roles == {"builder": 20 * CENTS, "planner": 10 * CENTS}
    for by in get_args(queries.By):
        found = queries.cost(tx.db, by)
        assert sum(row["spent_usd"] for row in found["rows"]) == 30 * CENTS and found["unpriced"] == 1
        assert sum(row["requests"] for row in found["rows"]) == 4


class LedgerLaws(RuleBasedStateMachine):
    """settled + reserved + in doubt never passes the budget, whatever is in flight when the process dies."""

    @initialize(run=st.integers(0, 60), session=st.one_of(st.none(), st.integers(0, 30)))
    def begin(self, run: int, session: int | None) -> None:
        self.tx = memory()
        self.books = ledger(SCRIPTED, run * CENTS, None if session is None else session * CENTS)
        self.flying: list[int] = []

    @rule(seat=st.integers(1, 3))
    def reserve(self, seat: int) -> None:
        before = account(self.tx.db)
        try:
            made = self.books.reserve(self.tx, f"agent-0{seat}/1", 1, TEAM, Ruler().size(asked("x")), 10)
        except OutOfMoney:
            assert account(self.tx.db) == before
        else:
            self.flying.append(made)

    @precondition(lambda self: self.flying)
    @rule(pick=st.integers(0, 99), share=st.integers(0, 100), how=st.sampled_from(["settle", "doubt", "free"]))
    def end(self, pick: int, share: int, how: str) -> None:
        attempt = self.flying.pop(pick % len(self.flying))
        match how:
            case "settle":
                self.books.settle(self.tx, attempt, Usage(input=600 * share, output=400 * share), TEAM)
            case "doubt":
                self.books.doubt(self.tx, attempt, "cut")
            case _:
                self.books.free(self.tx, attempt, "429")

    @rule()
    def crash(self) -> None:
        self.tx = Tx(self.tx.db, self.tx.epoch + 1, NOW)
        assert sorted(self.books.recover(self.tx)) == sorted(self.flying)
        self.flying = []
        self.books.draining = False

    @rule(draining=st.booleans())
    def drain(self, draining: bool) -> None:
        self.books.draining = draining

    @invariant()
    def laws(self) -> None:
        if not hasattr(self, "tx"):
            return
        used = account(self.tx.db)
        assert self.books.budget is not None and used.total() <= self.books.budget
        assert all(amount >= 0 for amount in used.values())
        made = self.tx.db.execute("SELECT * FROM attempt").fetchall()
        assert used == added_up(made)
        for session in {attempt["session"] for attempt in made}:
            mine = account(self.tx.db, session)
            assert mine == added_up([attempt for attempt in made if attempt["session"] == session])
            assert self.books.session_budget is None or mine.total() <= self.books.session_budget


def added_up(made: list[sqlite3.Row]) -> Counter[str]:
    """Every attempt by its state, one by one."""
    sums = Counter[str]()
    for attempt in made:
        settled = attempt["state"] == AttemptState.SETTLED
        sums[attempt["state"]] += attempt["cost" if settled else "reserved"] or 0
    return Counter({state: amount for state, amount in sums.items() if state != AttemptState.FREE})


LedgerLaws.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)
test_ledger_laws = LedgerLaws.TestCase


# The meter


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_meter_was_told_is_stored_when_it_answers(tmp_path: Path, backend: str) -> None:
    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)
        await store.create("run", "{}")
        await store.begin_epoch()
        replies: list[str] = []
        books = Ledger(SCRIPTED, 100 * CENTS)
        meter: Meter = SessionMeter(books, store, "agent-01/1", TEAM, 3, lambda tx, reply: replies.append(reply.model))

        async def state(attempt: int) -> Any:
            return await store.read(lambda db: stored(db, attempt))

        attempt = await meter.reserve(asked("x"))
        assert ((await state(attempt))["state"], (await state(attempt))["turn"]) == (AttemptState.RESERVED, 3)
        await meter.settle(attempt, Reply((), Stop.END, Usage(input=1_000), TEAM))
        assert (await state(attempt))["cost"] == 1_000 and replies == [TEAM]
        cut, refused = await meter.reserve(asked("x")), await meter.reserve(asked("x"))
        failure = ModelFailure(Fault.CUT, "in its third line", partial="fn main() {")
        await meter.fail(cut, failure)
        await meter.fail(refused, ModelFailure(Fault.OVERLOADED, "try again later"))
        assert (await state(cut))["state"] == AttemptState.IN_DOUBT
        assert (await state(refused))["state"] == AttemptState.FREE
        assert "fn main() {" in (await state(cut))["failure"]
        await store.close()

    anyio.run(scenario, backend=backend)


def test_a_reply_that_cannot_be_stored_is_not_settled_either(tmp_path: Path) -> None:
    def broken(tx: Tx, reply: Reply) -> None:
        raise RuntimeError("no room")

    async def scenario() -> None:
        store = Store(tmp_path / "state.db", lambda: NOW)
        meter = SessionMeter(Ledger(SCRIPTED), store, "agent-01/1", TEAM, 1, broken)
        attempt = await meter.reserve(asked("x"))
        with pytest.raises(RuntimeError):
            await meter.settle(attempt, Reply((), Stop.END, Usage(), TEAM))
        assert (await store.read(lambda db: stored(db, attempt)))["state"] == AttemptState.RESERVED
        await store.close()

    anyio.run(scenario)


@given(counts=st.lists(st.integers(0, 400_000), min_size=5, max_size=5), model=st.sampled_from([OPUS, TEAM]))
def test_a_price_worked_out_once_is_to_the_micro_dollar_what_the_table_says(counts: list[int], model: str) -> None:
    price, usage = SCRIPTED._price(model, NOW) or Prices()._price(model, NOW), Usage(*counts)
    assert price is not None and _rates(price)
    assert _micro(price, usage) == math.ceil(_usd(price, usage) * 1_000_000)


def test_what_the_run_spends_is_what_its_attempts_amount_to_at_every_step() -> None:
    tx, books = memory(), ledger(SCRIPTED, run=1000 * CENTS)
    sums = "SELECT state, sum(amount) FROM attempt GROUP BY state"

    def same() -> bool:
        return account(tx.db) == Counter(dict(tx.db.execute(sums).fetchall()))

    one, two, three = (
        books.reserve(tx, f"agent-0{n}/1", 1, TEAM, Ruler().size(asked("x" * n)), 100) for n in (1, 2, 3)
    )
    assert same()
    books.settle(tx, one, Usage(input=10, output=5), TEAM)
    assert same()
    books.doubt(tx, two, "stream cut")
    books.free(tx, three, "429")
    assert same() and account(tx.db).total() > 0
    books.recover(tx)
    assert same()
