"""Money in a real run: never above the budget, the team drained, the run resumable with more (P6)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from tests.orchestrator.running import Run, Step, Yard, shell, small_project, small_team, yard

DOLLAR = 1_000_000
PEAK = """
CREATE TABLE peak (total INTEGER NOT NULL);
INSERT INTO peak VALUES (0);
CREATE TRIGGER reserved AFTER INSERT ON attempt
BEGIN UPDATE peak SET total = max(total, (SELECT sum(amount) FROM attempt)); END;
CREATE TRIGGER ended AFTER UPDATE ON attempt
BEGIN UPDATE peak SET total = max(total, (SELECT sum(amount) FROM attempt)); END;
"""


@pytest.fixture
def place() -> Iterator[Yard]:
    with yard() as made_yard:
        yield made_yard


def spendthrift(_: str) -> list[Step]:
    return [shell(f"echo {number}") for number in range(500)]


def watched(run: Run) -> Run:
    """From here on the state remembers the most that was ever settled, reserved and in doubt together."""
    db = sqlite3.connect(run.db)
    db.executescript(PEAK)
    db.close()
    return run


def used(run: Run) -> int:
    return int(run.one("SELECT coalesce(sum(amount), 0) FROM attempt"))


def test_a_team_that_would_spend_fifty_dollars_stops_below_one_and_goes_on_with_more(place: Yard) -> None:
    project = small_project(place.folder / "small")
    team = small_team(place.folder / "team.toml", calls=spendthrift, cents=10)
    models = {"": f"scripted:{team}"}
    run = watched(place.create(project, 2, models=models, budget=DOLLAR, session_budget=50 * DOLLAR))
    run.serve()
    run.finish()
    assert 0.9 * DOLLAR <= used(run) <= run.one("SELECT total FROM peak") <= DOLLAR
    assert "budget" in run.one("SELECT reason FROM run")
    kinds = [row["kind"] for row in run.rows("SELECT kind FROM journal")]
    assert kinds.index("run-draining") < kinds.index("run-ended")
    spent_up, turns = used(run), run.one("SELECT sum(turns) FROM session")

    run.serve()  # with no more than before: ends again, nothing is asked
    run.finish()
    assert used(run) == spent_up
    refused = place.say("resume", run.name)
    assert (refused.returncode, "no money left (budget: " in refused.stderr) == (1, True), refused.stderr

    assert place.say("set", run.name, "budget=2").returncode == 0
    run.resume()
    run.finish()
    assert spent_up + 0.9 * DOLLAR <= used(run) <= run.one("SELECT total FROM peak") <= 2 * DOLLAR
    assert run.one("SELECT sum(turns) FROM session") > turns
    assert run.one("SELECT max(number) FROM session") == 1  # the same sessions went on, none began again
    assert f'"{used(run) / DOLLAR:.2f}"' in place.say("cost", run.name, "--json").stdout
    assert place.leftovers() == []


def test_a_killed_run_counts_what_was_in_flight_against_the_budget(place: Yard) -> None:
    project = small_project(place.folder / "small")
    team = small_team(place.folder / "team.toml", calls=spendthrift, cents=10)
    run = watched(place.create(project, 1, models={"": f"scripted:{team}"}, budget=DOLLAR, session_budget=50 * DOLLAR))
    for _ in range(2):
        run.serve(dying="after a vendor has answered")
        run.died()
    run.serve()
    run.finish()
    assert run.one("SELECT count(*) FROM attempt WHERE state = 'in-doubt' AND reserved = 100000") == 2
    assert 0.9 * DOLLAR <= used(run) <= run.one("SELECT total FROM peak") <= DOLLAR
    assert run.one("SELECT sum(turns) FROM session") == 8  # ten requests of ten cents, two of them lost


def test_a_declared_price_is_frozen_with_the_run_and_goes_before_every_other(place: Yard) -> None:
    project = small_project(place.folder / "small")
    team, file = small_team(place.folder / "team.toml", calls=spendthrift, cents=10), place.folder / "prices.toml"
    file.write_text(f'["scripted:{team}"]\ninput = 200\noutput = 0\n["openai/own"]\ninput = 1\noutput = 2.5\n')
    asked = ("start", str(project), "--agents", "1", "--unlocked", "--budget", "1", "--prices", str(file))
    said = place.say(*asked, "--model", "openai/own@http://127.0.0.1:9/v1", "--dry-run")
    assert "(priced)" in said.stdout, said.stderr
    run = place.start(project, team, 1, "run", *asked[5:])
    file.unlink()
    run.finish()
    assert "budget" in run.one("SELECT reason FROM run")
    assert place.say("set", run.name, "budget=2").returncode == 0
    run.resume()
    run.finish()
    costs = {row["cost"] for row in run.rows("SELECT cost FROM attempt WHERE state = 'settled'")}
    assert costs == {200_000} and 1.8 * DOLLAR <= used(run) <= 2 * DOLLAR  # twenty cents each, not the script's ten

    said = place.say(*asked, "--model", f"scripted:{team}")
    assert (said.returncode, f"{file}: " in said.stderr) == (2, True), said.stderr


def test_a_model_without_a_price_is_refused_under_a_budget_before_anything_starts(place: Yard) -> None:
    project = small_project(place.folder / "small")
    team = small_team(place.folder / "team.toml", cents=None)
    for model in (f"scripted:{team}", "openai/nobody-knows-this@http://127.0.0.1:9/v1"):
        said = place.say("start", str(project), "--agents", "2", "--model", model, "--unlocked", "--budget", "1")
        assert said.returncode == 3, said.stderr
        assert "no price is known for" in said.stderr
        assert "--prices FILE" in said.stderr
    assert list(place.logs.iterdir()) == []
