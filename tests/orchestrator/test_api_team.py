"""Sixteen API seats of two vendors over real HTTP, with faults: the work is done, and the ledger covers the bill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from agents.models.base import Usage
from orchestrator.prices import Prices
from tests.orchestrator.running import SUBMIT, Run, Step, faults, made, shell, small_project, small_team, yard
from tests.wire.faults import Plan
from tests.wire.server import Json, Wire, serve

CLAUDE, GPT = "anthropic/claude-sonnet-4-5", "openai/gpt-5"
WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"),
    *("india", "juliett", "kilo", "lima", "mike", "november", "oscar", "papa"),
)
BUDGET = 100_000_000


def calls(part: str) -> list[Step]:
    look = shell("cat /team/GOAL.md; ls parts")
    return [look, {"tool": "view", "path": "parts/base"}, made(part), {"tool": "verify", "what": "task"}, SUBMIT]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Wire]]:
    """A run of work of hello's size, one response in five of which went wrong."""
    script = small_team(tmp_path_factory.mktemp("team") / "team.toml", WORDS, calls, cents=None)
    with serve(script, Plan(5, seed=1)) as wire, yard(**wire.env() | {"ORCHESTRATOR_MODEL_IDLE_S": "3"}) as place:
        project = small_project(place.folder / "small", WORDS, {"builder": 8, "helper": 8})
        run = place.start(project, f"{CLAUDE} helper={GPT}", 16, "run", "--budget", str(BUDGET / 1e6))
        run.finish()
        yield run, wire


def billed(rows: list[Json]) -> int:
    """What the vendors would ask for, in micro-dollars."""
    prices, today = Prices(), datetime.now(UTC)
    ids = {id.partition("/")[2]: id for id in (CLAUDE, GPT)}
    costs = [prices.cost(ids[row["model"]], Usage(**row["tokens"]), today) for row in rows]
    assert None not in costs
    return sum(cost or 0 for cost in costs)


def test_the_team_finishes_and_every_seat_of_both_vendors_has_worked(team: tuple[Run, Wire]) -> None:
    run, _ = team
    assert set(run.judged().values()) == {"PASS"} and len(run.judged()) == len(WORDS) + 1
    assert faults(run) == []
    assert run.yard.leftovers() == []
    models = run.rows("SELECT model, count(DISTINCT seat) AS seats FROM session GROUP BY model ORDER BY model")
    assert [tuple(row) for row in models] == [(CLAUDE, 8), (GPT, 8)]


def test_the_vendors_bill_is_covered_by_the_ledger_and_the_ledger_by_the_budget(team: tuple[Run, Wire]) -> None:
    run, wire = team
    complete, cut = wire.billing.of("complete"), wire.billing.of("cut")
    sums = dict(map(tuple, run.rows("SELECT state, sum(amount) FROM attempt GROUP BY state")))
    settled, reserved, in_doubt = (sums.get(state, 0) for state in ("settled", "reserved", "in-doubt"))
    assert cut and wire.billing.of("refused")
    assert billed(complete) == settled  # equal where nothing was cut
    assert billed(complete) + billed(cut) <= settled + in_doubt <= BUDGET
    assert reserved == 0
    assert len(cut) <= run.one("SELECT count(*) FROM attempt WHERE state = 'in-doubt'")  # a 500 may be billed as well


def test_no_fault_of_a_vendor_is_read_as_output_or_held_against_an_agent(team: tuple[Run, Wire]) -> None:
    run, wire = team
    for body in wire.vendor.requests:
        assert "injected" not in json.dumps(body)
    assert {row["end"] for row in run.rows("SELECT end FROM session")} <= {"landed", "finished"}
    assert run.rows("SELECT 1 FROM journal WHERE kind = 'seat-crashed'") == []
    assert run.rows("SELECT 1 FROM journal WHERE kind = 'waiting' AND json_extract(data, '$.why') <> ''") != []


def test_no_request_is_made_for_a_turn_whose_reply_is_stored(team: tuple[Run, Wire]) -> None:
    run, wire = team
    turns = run.one("SELECT sum(turns) FROM session")
    assert len(wire.billing.of("complete")) == turns >= 60  # hello's team takes 63
    assert len(wire.vendor.requests) == run.one("SELECT count(*) FROM attempt")
