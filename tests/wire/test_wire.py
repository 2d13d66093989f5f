"""The local vendor itself: its plan of faults, its count, its command line."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agents.attempts import ask
from agents.models.base import Message, Request, Role, Text
from agents.models.choose import make
from tests.agents.stage import Purse
from tests.wire.faults import Fault, Plan

SCRIPT = '[[session]]\nrole = "builder"\nclose = "Nothing to do."\n[usage]\ninput = 100\noutput = 10\n'
REQUEST = Request("s", (), (Message(Role.USER, (Text("You are a, a builder, in session 1 of this seat."),)),))


def test_a_plan_has_one_fault_in_every_n_and_the_same_ones_for_a_seed() -> None:
    drawn = [Plan(every=5, seed=3).next() for _ in range(1)]
    one, two = Plan(every=5, seed=3), Plan(every=5, seed=3)
    first = [one.next() for _ in range(500)]
    assert first == [two.next() for _ in range(500)] and first[:1] == drawn
    assert all(sum(fault is not None for fault in first[n : n + 5]) == 1 for n in range(0, 500, 5))
    assert set(collections.Counter(first)) == {None, *Fault}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """The server as a process of its own, as a whole run would use it: what to set, and the server's log."""
    script, log = tmp_path / "team.toml", tmp_path / "billed.jsonl"
    script.write_text(SCRIPT)
    argv = [sys.executable, "-m", "tests.wire", str(script), "--faults", "5", "--seed", "1", "--retry-after", "0.01"]
    with subprocess.Popen([*argv, "--log", str(log)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield {**json.loads(server.stdout.readline()), "ORCHESTRATOR_MODEL_IDLE_S": "3"}, log
        server.send_signal(signal.SIGTERM)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_sixteen_seats_of_both_vendors_finish_and_the_servers_count_is_covered(
    served: tuple[dict[str, str], Path],
) -> None:
    """One fault in every five responses."""
    (env, log), purse, replies = served, Purse(), 0

    async def no_wait(wait: object) -> None: ...

    async def seat(number: int) -> None:
        nonlocal replies
        model = make(("anthropic/claude-opus-4-6", "openai/gpt-5")[number % 2], env)
        for _ in range(5):
            cap = anyio.CapacityLimiter(4)
            reply = await ask(model, REQUEST, purse, cap, no_wait, jitter=lambda: 0.0, first_wait_s=0.01)
            assert (reply.usage.input, reply.usage.output) == (100, 10)
            replies += 1
        await model.close()

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(seat, number)
    rows = [json.loads(line) for line in (await anyio.Path(log).read_text()).splitlines()]
    states = collections.Counter(row["state"] for row in rows)
    assert replies == purse.states.count("settled") == 80 <= states["complete"]
    assert states["complete"] + states["cut"] <= purse.states.count("settled") + purse.states.count("in-doubt")
    assert states["cut"] > 0 and states["refused"] > 0
    assert len({row["id"] for row in rows}) == len(rows) <= len(purse.states)
