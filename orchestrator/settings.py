"""What was asked of a run: the resolved command line. Stored with the run; changed only by journalled commands."""

import sqlite3
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from agents.models.scripted import Price
from orchestrator.store import Tx


class Settings(BaseModel, frozen=True, extra="forbid"):
    name: str
    project: str
    """The project's folder as it was named; the run reads its own frozen copy."""
    agents: int = Field(ge=1)
    models: dict[str, str]
    """Model id for each role; `""` is every other role's."""
    budget: int | None = None
    """Micro-dollars for the whole run; None only for teams that cost nothing."""
    session_budget: int | None = None
    prices: dict[str, Price] = {}
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
    replay: Literal["short", "full"] = "short"
    """Whether a recorded team leaves out calls that changed nothing."""
    pace: Literal["own", "real"] = "own"
    """Whether it keeps the recorded times."""

    def model_of(self, role: str) -> str:
        return self.models.get(role) or self.models[""]

    def seats(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Seats for each role by largest remainder, ties to the role named first, and at least one builder."""
        whole = sum(weights.values())
        seats = {role: self.agents * weight // whole for role, weight in weights.items()}
        remainders = sorted(weights, key=lambda role: -(self.agents * weights[role] % whole))  # stable: ties keep order
        for role in remainders[: self.agents - sum(seats.values())]:
            seats[role] += 1
        if weights.get("builder") and not seats["builder"]:
            seats[max(seats, key=lambda role: seats[role])] -= 1
            seats["builder"] = 1
        return {role: count for role, count in seats.items() if count}


def settings_of(db: sqlite3.Connection) -> Settings:
    return Settings.model_validate_json(db.execute("SELECT settings FROM run").fetchone()["settings"])


def set_budget(tx: Tx, budget: int, by: str) -> Settings:
    """Gives the run another budget and returns its settings from here on."""
    old = settings_of(tx.db)
    new = old.model_copy(update={"budget": budget})
    tx.run("UPDATE run SET settings = ?", new.model_dump_json())
    tx.journal("condition-changed", what="budget", old=old.budget, new=budget, by=by)
    return new
