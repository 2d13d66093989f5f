"""What was asked of a run: the resolved command line. Stored with the run; changed only by journalled commands."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Usd = Annotated[Decimal, Field(ge=0)]


class Declared(BaseModel):
    """A price that the user or a script states, in USD per million tokens.

    A kind of cached input that is left out costs what `input` costs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write_5m: Usd | None = None
    cache_write_1h: Usd | None = None


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    project: str
    """The project's folder as it was named; the run reads its own frozen copy."""
    agents: int = Field(ge=1)
    models: dict[str, str]
    """Model id for each role; `""` is every other role's."""
    budget: int | None = None
    """Micro-dollars for the whole run; None only for teams that cost nothing."""
    session_budget: int | None = None
    prices: dict[str, Declared] = {}
    """By model id; they go before every other price."""
    hours: float | None = None
    idle_s: float | None = None
    """Drain when no case newly passed on main for so long."""
    sandbox: str | None = None
    """Engine of the seats; None lets the machine decide."""
    judge_cores: int = Field(default=2, ge=1)
    verify_cores: int = Field(default=1, ge=1)
    lease_s: float = 45 * 60
    """An open seat that does nothing for so long loses its session."""
    drain_s: float = 15 * 60
    unlocked: bool = False

    def model_of(self, role: str) -> str:
        return self.models.get(role, self.models[""])
