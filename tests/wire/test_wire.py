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
from tests.wire.faults import UNTIMED, Fault, Plan
from tests.wire.server import became

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
    kinds = ",".join(UNTIMED)
    with subprocess.Popen([*argv, "--kinds", kinds, "--log", str(log)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline()), log
        server.send_signal(signal.SIGTERM)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_sixteen_seats_of_both_vendors_finish_and_the_servers_count_is_the_ledgers(
    served: tuple[dict[str, str], Path],
) -> None:
    """One fault in every five responses."""
    (env, log), purse, replies = served, Purse(), 0
    models = [make(id, env) for id in ("anthropic/claude-opus-4-6", "openai/gpt-5")]
    cap = anyio.CapacityLimiter(8)

    async def no_wait(why: str, seconds: float | None) -> None: ...

    async def seat(number: int) -> None:
        nonlocal replies
        for _ in range(5):
            model = models[number % 2]
            reply = await ask(model, REQUEST, purse, cap, no_wait, jitter=lambda: 0.0, first_wait_s=0.01)
            assert (reply.usage.input, reply.usage.output) == (100, 10)
            replies += 1

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(seat, number)
    for model in models:
        await model.close()
    rows = [json.loads(line) for line in (await anyio.Path(log).read_text()).splitlines()]
    states = collections.Counter(became(row) for row in rows)
    assert states == collections.Counter(purse.states) and min(states.values()) > 0
    assert replies == states["settled"] == 80 and set(states) == {"settled", "in-doubt", "free"}
    assert len({row["id"] for row in rows}) == len(rows) and sum(states.values()) == 80 * 5 // 4
