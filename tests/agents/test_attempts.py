from __future__ import annotations

import ast
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

import agents
from agents.attempts import OutOfMoney, ask
from agents.models.base import SIGNS, Fault, ModelFailure, Reply, Request, Stop, Usage, fault_of
from tests.agents.stage import Purse

REQUEST = Request("", (), ())
DONE = Reply((), Stop.END, Usage(), "test")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """A clock that jumps: hours of waiting pass in milliseconds."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Failing:
    """Fails as it is told, then answers."""

    id, window = "test/model", 1000

    def __init__(self, *failures: ModelFailure, seconds: float = 0.0) -> None:
        self.failures, self.seconds, self.asked = list(failures), seconds, 0

    async def reply(self, request: Request) -> Reply:
        self.asked += 1
        await anyio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        return DONE

    async def close(self) -> None: ...


class Watcher:
    def __init__(self) -> None:
        self.waits: list[tuple[str, float | None]] = []

    async def __call__(self, why: str, seconds: float | None) -> None:
        self.waits.append((why, seconds))


async def asked(model: Failing, purse: Purse | None = None, watcher: Watcher | None = None) -> Reply:
    return await ask(
        model, REQUEST, purse or Purse(), anyio.CapacityLimiter(1), watcher or Watcher(), jitter=lambda: 0.5
    )


def test_each_fault_has_its_own_words_and_each_sign_tells_one_fault() -> None:
    assert len({fault.words for fault in Fault}) == len(Fault) == 12
    signs = [sign for fault in Fault for sign in fault.signs]
    assert len(signs) == len(SIGNS)


def test_adapters_raise_only_faults_of_the_table() -> None:
    """Each `ModelFailure(…)` in the code names its fault from the table, or takes it from `fault_of`."""
    named = 0
    for file in Path(agents.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ModelFailure":
                first = ast.unparse(node.args[0])
                assert (
                    first.startswith("fault_of(")
                    or first == "fault"
                    or first.removeprefix("Fault.") in Fault.__members__
                )
                named += 1
    assert named > 5


def test_only_what_was_refused_before_the_vendor_began_is_free() -> None:
    free = {fault for fault in Fault if not ModelFailure(fault, "").billed}
    assert {Fault.RATE_LIMITED, Fault.OVERLOADED, Fault.UNREACHABLE} <= free
    assert not {Fault.CUT, Fault.STALLED, Fault.GARBLED, Fault.SERVER_ERROR} & free
    assert all(ModelFailure(fault, "", began=True).billed for fault in Fault)


@pytest.mark.parametrize(
    ("status", "codes", "message", "fault"),
    [
        (429, (), "", Fault.RATE_LIMITED),
        (429, ("insufficient_quota",), "", Fault.NO_CREDIT),
        (400, ("invalid_request_error",), "prompt is too long: 208310 tokens > 200000", Fault.CONTEXT_FULL),
        (400, ("context_length_exceeded",), "", Fault.CONTEXT_FULL),
        (400, ("invalid_request_error",), "Your credit balance is too low", Fault.NO_CREDIT),
        (400, ("invalid_request_error",), "max_tokens: must be positive", Fault.REJECTED),
        (401, ("authentication_error",), "", Fault.UNAUTHORIZED),
        (404, (), "", Fault.NOT_FOUND),
        (418, (), "", Fault.REJECTED),
        (502, (), "", Fault.SERVER_ERROR),
        (529, ("overloaded_error",), "", Fault.OVERLOADED),
        (200, ("overloaded_error",), "", Fault.OVERLOADED),
    ],
)
def test_an_answer_that_is_an_error_is_named(status: int, codes: tuple[str, ...], message: str, fault: Fault) -> None:
    assert fault_of(status, codes, message) is fault


@pytest.mark.anyio
async def test_a_rate_limit_is_waited_out_for_as_long_as_the_vendor_asks_and_shown() -> None:
    model = Failing(*(ModelFailure(Fault.RATE_LIMITED, "slow down", retry_after=3600) for _ in range(100)))
    purse, watcher, begun = Purse(), Watcher(), anyio.current_time()
    assert await asked(model, purse, watcher) is DONE
    assert purse.states == ["free"] * 100 + ["settled"]
    assert watcher.waits[0] == ("rate limit: slow down", 3600 + 180)
    assert watcher.waits[1] == ("", None) and len(watcher.waits) == 200
    assert anyio.current_time() - begun == 100 * 3780


@pytest.mark.anyio
async def test_waits_double_up_to_their_longest() -> None:
    model = Failing(*(ModelFailure(Fault.UNREACHABLE, "") for _ in range(12)))
    watcher = Watcher()
    await asked(model, watcher=watcher)
    seconds = [wait_s for why, wait_s in watcher.waits if why]
    assert seconds[:3] == [1.5, 3.0, 6.0] and seconds[-1] == 450.0


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault.tries])
async def test_what_may_be_billed_or_will_not_mend_is_bounded(fault: Fault) -> None:
    model, purse = Failing(*(ModelFailure(fault, str(n)) for n in range(50))), Purse()
    with pytest.raises(ModelFailure) as raised:
        await asked(model, purse)
    assert model.asked == fault.tries
    assert raised.value.message == str(model.asked - 1)
    assert purse.states == ["in-doubt" if fault.billed else "free"] * model.asked


@pytest.mark.anyio
async def test_a_budget_that_is_gone_sends_nothing() -> None:
    class Empty(Purse):
        async def reserve(self, request: Request) -> int:
            raise OutOfMoney("gone")

    model = Failing()
    with pytest.raises(OutOfMoney):
        await asked(model, Empty())
    assert model.asked == 0


@pytest.mark.anyio
async def test_a_request_that_we_end_ourselves_stays_in_doubt() -> None:
    purse = Purse()
    with anyio.move_on_after(5):
        await asked(Failing(seconds=60), purse)
    assert purse.states == ["in-doubt"]


@pytest.mark.anyio
async def test_an_account_has_no_more_requests_in_flight_than_its_cap_and_waiting_seats_hold_no_place() -> None:
    limiter, watcher = anyio.CapacityLimiter(1), Watcher()
    waiting = Failing(ModelFailure(Fault.RATE_LIMITED, "", retry_after=1000))
    ended: list[tuple[str, float]] = []
    begun = anyio.current_time()

    async def seat(name: str, model: Failing) -> None:
        await ask(model, REQUEST, Purse(), limiter, watcher, jitter=lambda: 0.0)
        ended.append((name, anyio.current_time() - begun))

    async with anyio.create_task_group() as group:
        group.start_soon(seat, "waiting", waiting)
        await anyio.sleep(1)
        group.start_soon(seat, "second", Failing(seconds=10))
        group.start_soon(seat, "third", Failing(seconds=10))
    assert sorted(seconds for _, seconds in ended) == [11, 21, 1000]
    assert any(why and wait_s is None for why, wait_s in watcher.waits)
