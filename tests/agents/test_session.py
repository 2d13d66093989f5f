"""The turn loop with a scripted model, a room over a folder, and a log that can lose its process at any write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from agents.attempts import OutOfMoney, ask
from agents.context import GO_ON, Transcript, Turn
from agents.hands import Hands
from agents.models.base import (
    Fault,
    Message,
    ModelFailure,
    Reply,
    Request,
    Role,
    Stop,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from agents.models.scripted import Scripted
from agents.session import CUT_OFF, INTERRUPTED, Mind, Outcome, converse, same_failure
from agents.tools import End, Shell, specs
from sandbox.room import RoomDied
from tests.agents.conftest import Models, Serving
from tests.agents.stage import Board, Crash, FolderRoom, MemoryLog, Purse, call, going_on, until
from tests.wire.faults import UNTIMED, Plan
from tests.wire.server import became

pytestmark = pytest.mark.anyio

OPENING = "You are agent-01, a builder, in session 1 of this seat.\nTask: none yet: call tasks    Left: 5 USD"
SCRIPT = """
[[session]]
match = "*lexer*"
calls = [
  { tool = "shell", command = "echo one >> log.txt" },
  [ { tool = "view", path = "log.txt" }, { tool = "note", topic = "{task}", text = "half done" } ],
  { tool = "submit", summary = "Lexer", fixes = ["{case}"] },
]
on_bounce = [ { tool = "shell", command = "echo two >> log.txt" }, { tool = "submit", summary = "Lexer again" } ]
"""


def mind(ask: Callable[[Request], Awaitable[Reply]], window: int = 1_000_000) -> Mind:
    return Mind("builder", "You build.", specs("builder"), window, ask)


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[str], Scripted]:
    def make(text: str) -> Scripted:
        (tmp_path / "script.toml").write_text(text)
        return Scripted(tmp_path / "script.toml")

    return make


def replaying(*replies: Reply | Exception) -> Callable[[Request], Awaitable[Reply]]:
    left = list(replies)

    async def next_reply(request: Request) -> Reply:
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return next_reply


def reply(*calls: ToolCall, text: str = "", stop: Stop | None = None) -> Reply:
    words = (Text(text),) if text else ()
    return Reply((*words, *calls), stop or (Stop.TOOLS if calls else Stop.END), Usage(), "test")


async def test_a_session_goes_from_the_board_to_a_landing_through_a_bounce(
    tmp_path: Path, scripted: Callable[[str], Scripted]
) -> None:
    room, board, log = FolderRoom(tmp_path), Board(bounces=1), MemoryLog(Transcript(OPENING))
    outcome = await converse(log, mind(scripted(SCRIPT).reply), Hands(room), board, going_on)
    assert outcome == Outcome(End.LANDED, "landed as 91d0c3e, T1 closed: 2 of 2 cases pass")
    assert board.done == ["tasks", "claim", "note", "submit", "submit"]
    assert (tmp_path / "workspace/log.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("before", [True, False])
async def test_a_session_killed_at_any_write_goes_on_to_the_same_end(
    tmp_path: Path, scripted: Callable[[str], Scripted], before: bool
) -> None:
    model, requests, crashes = scripted(SCRIPT), 0, 0

    async def counted(request: Request) -> Reply:
        nonlocal requests
        requests += 1
        return await model.reply(request)

    while True:
        log, board = MemoryLog(Transcript(OPENING), crash_at=crashes, crash_before=before), Board(bounces=1)
        requests = 0
        with suppress(Crash):
            await converse(log, mind(counted), Hands(FolderRoom(tmp_path)), board, going_on)
            break  # no write of that number was left to die at
        crashes += 1
        died_storing = before and len(requests_stored(log)) < requests
        outcome = await converse(log, mind(counted), Hands(FolderRoom(tmp_path)), board, going_on)
        assert outcome.end is End.LANDED
        assert board.done == ["tasks", "claim", "note", "submit", "submit"]  # each verb took effect once
        assert requests == len(log.transcript.turns) + died_storing  # at most one request is asked again
    assert crashes == len(log.writes) > 20


def requests_stored(log: MemoryLog) -> list[str]:
    return [write for write in log.writes if write == "reply"]


async def test_nothing_runs_before_its_reply_is_stored(tmp_path: Path, scripted: Callable[[str], Scripted]) -> None:
    board, log = Board(), MemoryLog(Transcript(OPENING), crash_at=0, crash_before=True)
    with pytest.raises(Crash):
        await converse(log, mind(scripted(SCRIPT).reply), Hands(FolderRoom(tmp_path)), board, going_on)
    assert board.done == [] and log.writes == []


async def test_a_command_that_was_running_is_answered_as_interrupted_and_a_job_is_picked_up(tmp_path: Path) -> None:
    calls = (
        call("shell", "c1", command="echo again >> log.txt"),
        call("shell", "c2", command="echo once >> log.txt", background=True),
        call("wait", "c3", job=2),
        call("note", "c4", topic="T1", text="x"),
    )
    log = MemoryLog(Transcript(OPENING, (Turn(reply(*calls)),)))
    room, board = FolderRoom(tmp_path), Board()
    log.running = {pending.key for pending in log.pending}  # begun by a process that is gone
    await Hands(room).do(Shell.model_validate(calls[1].arguments), 2)
    await board.do("note", log.pending[3].key, {})
    outcome = await converse(log, mind(replaying(reply(text="Done."))), Hands(room), board, going_on)
    assert outcome == Outcome(End.FINISHED, "Done.")
    results = log.transcript.turns[0].results
    assert (results[0].text, results[0].failed) == (INTERRUPTED, True)
    assert results[2].text.startswith("job 2: exit 0")
    assert (tmp_path / "workspace/log.txt").read_text() == "once\n"
    assert (room.started, board.done) == (1, ["note"])


async def test_a_dead_room_is_passed_up_and_never_shown_as_a_result(tmp_path: Path) -> None:
    room, log = FolderRoom(tmp_path), MemoryLog(Transcript(OPENING))
    room.dead = True
    with pytest.raises(RoomDied):
        await converse(log, mind(replaying(reply(call("shell", command="ls")))), Hands(room), Board(), going_on)
    assert log.transcript.turns[0].results == ()
    assert log.pending[0].running


async def test_a_providers_failure_is_passed_up_and_leaves_the_transcript_as_it_was(tmp_path: Path) -> None:
    log = MemoryLog(Transcript(OPENING))
    with pytest.raises(ModelFailure):
        await converse(
            log,
            mind(replaying(ModelFailure(Fault.UNAUTHORIZED, "no"))),
            Hands(FolderRoom(tmp_path)),
            Board(),
            going_on,
        )
    assert log.transcript == Transcript(OPENING)


async def test_three_identical_failures_in_a_row_end_a_session_with_the_reason(tmp_path: Path) -> None:
    log = MemoryLog(Transcript(OPENING))
    same = [reply(call("shell", f"c{n}", command="exit 3")) for n in range(9)]
    outcome = await converse(log, mind(replaying(*same)), Hands(FolderRoom(tmp_path)), Board(), going_on)
    assert outcome.end is End.REPEATED_FAILURE
    assert "shell failed 3 times in a row" in outcome.reason
    assert len(log.transcript.turns) == 3


def test_a_success_or_another_call_in_between_breaks_the_row() -> None:
    def turn(n: int, command: str, failed: bool) -> Turn:
        return Turn(reply(call("shell", f"c{n}", command=command)), (ToolResult(f"c{n}", "exit 1", failed),))

    failing = [turn(n, "make", True) for n in range(3)]
    assert same_failure(Transcript("", tuple(failing)))
    assert not same_failure(Transcript("", (*failing[:2], turn(8, "ls", False), failing[2])))
    assert not same_failure(Transcript("", (*failing[:2], turn(8, "ls", True), failing[2])))


async def test_wrong_arguments_and_unknown_tools_are_told_to_the_model_with_a_remedy(tmp_path: Path) -> None:
    calls = (
        call("shell", "c1", cmd="ls"),
        call("plan", "c2", title="x"),
        ToolCall("c3", "edit", {}, "the arguments are not JSON"),
    )
    log = MemoryLog(Transcript(OPENING))
    outcome = await converse(
        log, mind(replaying(reply(*calls), reply(text="ok"))), Hands(FolderRoom(tmp_path)), Board(), going_on
    )
    assert outcome.end is End.FINISHED
    texts = [result.text for result in log.transcript.turns[0].results]
    assert "command: Field required" in texts[0] and "It takes command, timeout_s, background" in texts[0]
    assert "there is no tool 'plan' here; you have shell, wait" in texts[1]
    assert texts[2] == "edit was not run: the arguments are not JSON"
    assert all(result.failed for result in log.transcript.turns[0].results)


async def test_a_reply_cut_at_its_length_limit_is_kept_and_not_acted_on(tmp_path: Path) -> None:
    log, board = MemoryLog(Transcript(OPENING)), Board()
    replies = (
        reply(call("note", topic="T1", text="half of a sent"), stop=Stop.LENGTH),
        reply(text="I would now", stop=Stop.LENGTH),
        reply(text="Done."),
    )
    requests: list[Request] = []
    ask = replaying(*replies)

    async def listening(request: Request) -> Reply:
        requests.append(request)
        return await ask(request)

    outcome = await converse(log, mind(listening), Hands(FolderRoom(tmp_path)), board, going_on)
    assert outcome.reason == "Done."
    assert log.transcript.turns[0].results[0].text == CUT_OFF and board.done == []
    assert requests[-1].messages[-1] == Message(Role.USER, (Text(GO_ON),))


async def test_a_drain_ends_a_session_at_a_stored_turn_after_its_calls_were_answered(tmp_path: Path) -> None:
    log, board = MemoryLog(Transcript(OPENING, (Turn(reply(call("note", topic="a", text="b"))),))), Board()
    outcome = await converse(log, mind(replaying()), Hands(FolderRoom(tmp_path)), board, lambda: True)
    assert outcome == Outcome(End.DRAINED)
    assert board.done == ["note"] and not log.pending


async def test_a_stop_in_mid_session_and_an_empty_budget_end_a_session(tmp_path: Path) -> None:
    hands = Hands(FolderRoom(tmp_path))
    talk = [reply(call("view", f"c{n}", path=".")) for n in range(5)]
    log = MemoryLog(Transcript(OPENING))
    outcome = await converse(log, mind(replaying(*talk)), hands, Board(), lambda: len(log.transcript.turns) == 2)
    assert outcome.end is End.DRAINED
    assert len(log.transcript.turns) == 2
    broke = mind(replaying(OutOfMoney("$15 of this session are spent")))
    outcome = await converse(MemoryLog(Transcript(OPENING)), broke, hands, Board(), going_on)
    assert outcome == Outcome(End.BUDGET, "$15 of this session are spent")


async def test_words_between_turns_reach_the_model_outside_of_any_result(tmp_path: Path) -> None:
    log = MemoryLog(Transcript(OPENING), waiting=["[person] Prefer aarch64 today."])
    heard: list[tuple[Message, ...]] = []

    async def listening(request: Request) -> Reply:
        heard.append(request.messages)
        log.waiting.append("[run] 80 % of this session's money is spent.")
        return reply(call("view", "c1", path=".")) if len(heard) == 1 else reply(text="Done.")

    await converse(log, mind(listening), Hands(FolderRoom(tmp_path)), Board(), going_on)
    assert heard[0][0].blocks == (Text(OPENING), Text("[person] Prefer aarch64 today."))
    assert heard[1][-1].blocks[1:] == (Text("[run] 80 % of this session's money is spent."),)


async def test_a_cancelled_session_goes_on_with_the_call_it_was_in(tmp_path: Path) -> None:
    log, room = MemoryLog(Transcript(OPENING)), FolderRoom(tmp_path)
    slow = mind(replaying(reply(call("shell", command="sleep 60"))))
    async with anyio.create_task_group() as group:
        group.start_soon(converse, log, slow, Hands(room), Board(), going_on)
        await until(lambda: "begin" in log.writes)
        group.cancel_scope.cancel()
    assert log.pending[0].running
    outcome = await converse(log, mind(replaying(reply(text="I see."))), Hands(room), Board(), going_on)
    assert outcome.reason == "I see." and log.transcript.turns[0].results[0].text == INTERRUPTED


async def test_an_overflowing_conversation_is_summarized_and_goes_on(tmp_path: Path) -> None:
    """The window proves smaller than believed: the summary takes the turns' place, and the transcript keeps them."""
    seen: list[Request] = []
    replies = iter([reply(text="Summary: T1 is half done."), reply(text="Done.")])

    async def narrow(request: Request) -> Reply:
        seen.append(request)
        if sum(len(str(message)) for message in request.messages) > 20_000:
            raise ModelFailure(Fault.CONTEXT_FULL, "prompt is too long")
        return next(replies)

    turns = tuple(Turn(reply(call("view", f"c{n}", path="a")), (ToolResult(f"c{n}", "x" * 5_000),)) for n in range(5))
    log = MemoryLog(Transcript(OPENING, turns))
    outcome = await converse(log, mind(narrow), Hands(FolderRoom(tmp_path)), Board(), going_on)
    assert outcome == Outcome(End.FINISHED, "Done.")
    assert len(log.transcript.turns) == 6
    last = seen[-1].messages
    assert [message.role for message in last] == [Role.USER]
    assert "Summary: T1 is half done." in str(last[0].blocks[1])


async def test_a_window_too_small_even_for_a_summary_ends_the_session_in_words(tmp_path: Path) -> None:
    async def full(request: Request) -> Reply:
        raise ModelFailure(Fault.CONTEXT_FULL, "prompt is too long")

    outcome = await converse(MemoryLog(Transcript(OPENING)), mind(full), Hands(FolderRoom(tmp_path)), Board(), going_on)
    assert outcome.end is End.CONTEXT and "full" in outcome.reason


@pytest.mark.parametrize("id", ["anthropic/claude-opus-4-6", "openai/gpt-5"])
async def test_a_session_over_http_with_every_third_response_broken_lands_and_is_paid_for(
    tmp_path: Path, serving: Serving, models: Models, id: str
) -> None:
    wire = serving(SCRIPT, Plan(every=3, seed=7, kinds=UNTIMED), retry_after=0.01)
    model = models(id, wire.env())
    purse, log, board = Purse(), MemoryLog(Transcript(OPENING)), Board(bounces=1)

    async def no_wait(why: str, seconds: float | None) -> None: ...

    async def asking(request: Request) -> Reply:
        cap = anyio.CapacityLimiter(1)
        return await ask(model, request, purse, cap, no_wait, jitter=lambda: 0.0, first_wait_s=0.01)

    outcome = await converse(log, mind(asking), Hands(FolderRoom(tmp_path)), board, going_on)
    assert outcome.end is End.LANDED
    assert (tmp_path / "workspace/log.txt").read_text() == "one\ntwo\n"
    assert purse.states == [became(row) for row in wire.billing.rows]
    assert set(purse.states) == {"settled", "in-doubt", "free"}
