"""What a request costs: genai-prices by resolved model id and date, declared prices on top, in integer micro-dollars.

A price that is not known is None, never zero (P6). Fractions are rounded up, so that a sum is never below the vendor's.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from genai_prices import Usage as Counts
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice
from pydantic import RootModel

from agents.models.base import Model, Usage
from agents.models.scripted import Price, Scripted
from orchestrator.control import Refusal
from orchestrator.project.reading import ConfigError, Problem, read_toml

MICRO: Final = 1_000_000
_INPUTS: Final = ("input", "cache_read", "cache_write_5m", "cache_write_1h")


def unmetered(model: str) -> bool:
    """Whether its requests are not ours to pay: outside money budgets, shown as unmetered."""
    return model.partition(":")[0] in ("open", "recorded")


class Prices:
    """`declared` by model id, as `--model` or as the vendor names it. `most` says what one request of a model uses at
    most, where that does not follow from the request (scripted models)."""

    def __init__(self, declared: Mapping[str, Price] | None = None, most: Mapping[str, Usage] | None = None) -> None:
        self._declared = {id: _stated(rates) for id, rates in (declared or {}).items()}
        self._most = dict(most or {})

    def cost(self, model: str, usage: Usage, at: datetime, resolved: str = "") -> int | None:
        """Micro-dollars for a usage at the time of its request. `resolved` is the id that the vendor returned."""
        price = self._price(model, at, resolved)
        return None if price is None else _micro(price, usage)

    def worst(self, model: str, input_tokens: int, output_tokens: int, at: datetime) -> int | None:
        """The most that a request with up to so many tokens can cost, however its input is split between fresh tokens,
        cache reads and cache writes. Tiers for long requests only ever rise in the table."""
        price = self._price(model, at)
        if price is None:
            return None
        if model in self._most:
            return _micro(price, self._most[model])
        return max(_micro(price, Usage(output=output_tokens, **{kind: input_tokens})) for kind in _INPUTS)

    def check(self, models: Iterable[str], at: datetime) -> None:
        """Raises `Refusal` when a budget in money could not be kept with these models."""
        if unknown := [id for id in dict.fromkeys(models) if not unmetered(id) and self._price(id, at) is None]:
            raise Refusal(
                f"no price is known for {', '.join(unknown)}, so a budget in dollars cannot be kept: declare it with "
                f'--prices FILE ("{unknown[0]}" = {{ input = 3.0, output = 15.0 }}, USD per million tokens), '
                "or name another model",
                "not_ready",
            )

    def _price(self, model: str, at: datetime, resolved: str = "") -> ModelPrice | None:
        if unmetered(model):
            return None
        vendor, _, rest = model.partition("/") if ":" not in model.partition("/")[0] else ("", "", "")
        name = rest.partition("@")[0]
        for id in (f"{vendor}/{resolved}", resolved, model, f"{vendor}/{name}"):
            if id in self._declared:
                return self._declared[id]
        for id in filter(None, (resolved, name)):
            with suppress(LookupError):
                return get_snapshot().find_provider_model(id, None, vendor, None)[1].get_prices(at)
        return None


def prices_of(models: Mapping[str, Model], declared: dict[str, Price]) -> Prices:
    """genai-prices, before it what scripted teams declare (their price, and that no reply uses more than they say), and
    before both what the user `declared`."""
    scripts = {id: model.script for id, model in models.items() if isinstance(model, Scripted)}
    theirs = {id: script.price for id, script in scripts.items() if script.price}
    return Prices(theirs | declared, {id: Usage(**script.usage) for id, script in scripts.items()})


def load(path: Path) -> dict[str, Price]:
    """Reads a file of declared prices: TOML, one table for each model id. Raises `ConfigError`."""
    found: list[Problem] = []
    if file := read_toml(path, RootModel[dict[str, Price]], found, "docs/operators.md says what belongs there"):
        return file.root
    raise ConfigError(found)


def _stated(rates: Price) -> ModelPrice:
    kinds = {"cache_write_5m": "cache_write_mtok", "cache_write_1h": "cache_write_1h_mtok"}
    return ModelPrice(**{kinds.get(kind, f"{kind}_mtok"): rate for kind, rate in rates if rate is not None})


def _micro(price: ModelPrice, usage: Usage) -> int:
    rates = _rates(price)
    usd = sum(getattr(usage, kind) * rate for kind, rate in rates.items()) if rates else _usd(price, usage) * MICRO
    return math.ceil(usd)


_linear: dict[int, tuple[ModelPrice, dict[str, Decimal]]] = {}  # by identity: prices are mutable, and never changed


def _rates(price: ModelPrice) -> dict[str, Decimal]:
    """Micro-dollars of a token of each kind, worked out once; none where a price has tiers or counts requests.

    The table's own arithmetic takes a third of a millisecond for each request."""
    known, rates = _linear.get(id(price), (None, {}))
    if known is not price:
        if all(isinstance(rate, Decimal | None) for rate in vars(price).values()) and price.requests_kcount is None:
            rates = {kind: _usd(price, Usage(**{kind: MICRO})) for kind in (*_INPUTS, "output")}
        _linear[id(price)] = price, rates
    return rates


def _usd(price: ModelPrice, usage: Usage) -> Decimal:
    writes = usage.cache_write_5m + usage.cache_write_1h
    counts = Counts(
        input_tokens=usage.input + usage.cache_read + writes,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=writes,
        cache_write_5m_tokens=usage.cache_write_5m,
        cache_write_1h_tokens=usage.cache_write_1h,
    )
    return price.calc_price(counts)["total_price"]
