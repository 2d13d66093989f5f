"""The turn loop: query, store, act, store."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from agents.attempts import OutOfMoney
from agents.context import CUT, Transcript, Turn, fitted
from agents.hands import Hands
from agents.models.base import Fault, ModelFailure, Reply, Request, Stop, Text, ToolCall, ToolResult, ToolSpec
from agents.tools import Answer, BadArguments, Edit, End, InRoom, Later, Shell, Team, check
from sandbox import faults

SAME_FAILURES = 3  # identical failures in a row that end a session

INTERRUPTED = "interrupted: the orchestrator restarted while this ran. It may have run in part: look before you go on."
CUT_OFF = "not run: your reply was cut off at its length limit. Do it in smaller pieces."


@dataclass(frozen=True)
class Pending:
    """A call of the last stored reply that has no result yet. `key` is unique in the run, which a model's own id is
    not; `number` is its place among the session's calls; `running`: it was begun before, and not finished.
    """

    key: str
    number: int
    call: ToolCall
    running: bool = False


class SessionLog(Protocol):
    """One session in the store. What is written is durable when the call returns."""

    transcript: Transcript

    @property
    def pending(self) -> Sequence[Pending]:
        """The calls of the last stored reply without a result, in the model's order."""

    async def store_reply(self, reply: Reply) -> None:
        """A new turn, with its calls pending."""

    async def store_summary(self, reply: Reply, text: str) -> None:
        """`text` takes the place of all turns so far, in requests only."""

    async def begin(self, pending: Pending) -> None:
        """From here on the call may have had an effect."""

    async def finish(self, pending: Pending, answer: Answer) -> None:
        """The call's result, and with it the turn's end if `answer.end` says so."""

    async def hear(self) -> None:
        """Takes the lines that wait for this session (warnings, `[run] …`, `[person] …`) into the transcript."""


@dataclass(frozen=True)
class Outcome:
    """How a session ended, and why in one line for people."""

    end: End
    reason: str = ""


@dataclass(frozen=True)
class Mind:
    """Who thinks: pinned for the session. `ask` is `attempts.ask` with model, meter, limiter and waits bound to it."""

    role: str
    system: str
    tools: tuple[ToolSpec, ...]
    window: int
    ask: Callable[[Request], Awaitable[Reply]]


async def converse(log: SessionLog, mind: Mind, hands: Hands, team: Team, stopping: Callable[[], bool]) -> Outcome:
    """Query, store, act, store, until the model has nothing left to do. `stopping` is asked at each stored turn whether
    there must be no further request.

    A reply is stored before anything acts on it (P1), so a crash or a cancellation between any two lines resumes here.
    Raises `RoomError` (call again with a new room) and `ModelFailure` (no reply can be had): neither is the agent's
    fault.
    """
    while True:
        if ending := over(log.transcript):
            return ending
        if waiting := log.pending:
            try:
                await act(waiting[0], log, mind.role, hands, team)
            except Later as later:
                return Outcome(End.WAITING, str(later))
            continue
        if stopping():
            return Outcome(End.DRAINED)
        await log.hear()
        if ending := await query(log, mind):
            return ending


def over(transcript: Transcript) -> Outcome | None:
    """Why the session ends with what is stored, so that calls without a result are not run; or None."""
    last = transcript.turns[-1] if transcript.turns else None
    if last and last.end:  # a stored answer brought it: submit landed, task released
        return Outcome(last.end, last.results[-1].text.partition("\n")[0])
    if last and not last.reply.calls and not last.said and last.reply.stop not in CUT:
        words = "the vendor's model refused to go on" if last.reply.stop is Stop.REFUSAL else _words(last.reply)
        return Outcome(End.FINISHED, words.partition("\n")[0] or "nothing left to do")
    return same_failure(transcript)


def same_failure(transcript: Transcript) -> Outcome | None:
    """The end by the same failure three times in a row: one call with one result, but for its times and numbers."""
    backwards = (pair for turn in reversed(transcript.turns) for pair in reversed(_answered(turn)))
    newest = list(islice(backwards, SAME_FAILURES))[::-1]
    if len(newest) < SAME_FAILURES or not all(result.failed for _, result in newest):
        return None
    if len({(call.name, repr(call.arguments), re.sub(r"\d+", "#", result.text)) for call, result in newest}) > 1:
        return None
    call, result = newest[-1]
    first_line = result.text.partition("\n")[0]
    reason = f"{call.name} failed {SAME_FAILURES} times in a row in the same way: {first_line}"
    return Outcome(End.REPEATED_FAILURE, reason)


def _answered(turn: Turn) -> list[tuple[ToolCall, ToolResult]]:
    return list(zip(turn.reply.calls, turn.results, strict=False))


async def query(log: SessionLog, mind: Mind) -> Outcome | None:
    """Asks for the next reply and stores it; or, where the conversation has outgrown the window, for a summary. Returns
    the session's end if there is no way left to ask."""
    for squeezed in (False, True):  # the vendor may find the window smaller than we thought
        messages, summing = fitted(log.transcript, mind.window, squeezed)
        try:
            reply = await mind.ask(Request(mind.system, mind.tools, messages))
        except OutOfMoney as error:
            return Outcome(End.BUDGET, str(error))
        except ModelFailure as failure:
            if failure.fault is not Fault.CONTEXT_FULL:
                raise
            continue
        if not summing:
            await log.store_reply(reply)
        elif text := _words(reply):
            await log.store_summary(reply, text)
        else:
            return Outcome(End.CONTEXT, "the context window is full, and the model wrote no summary")
        return None
    return Outcome(End.CONTEXT, "the context window is full, even for a summary")


def _words(reply: Reply) -> str:
    return "\n".join(block.text for block in reply.blocks if isinstance(block, Text)).strip()


async def act(pending: Pending, log: SessionLog, role: str, hands: Hands, team: Team) -> None:
    """Runs one call, or says why not; begun and finished are stored on either side of it."""
    call, cut = pending.call, log.transcript.turns[-1].reply.stop in CUT
    try:
        if cut or call.error:
            raise BadArguments(CUT_OFF if cut else f"{call.name} was not run: {call.error}")
        arguments = check(role, call.name, call.arguments)
        in_front = isinstance(arguments, Edit) or (isinstance(arguments, Shell) and not arguments.background)
        if pending.running and in_front:
            return await log.finish(pending, Answer(INTERRUPTED, refused=True, how="interrupted"))
    except BadArguments as refusal:
        return await log.finish(pending, Answer(str(refusal), refused=True))
    await log.begin(pending)
    if isinstance(arguments, InRoom):
        answer = await hands.do(arguments, pending.number)
    else:
        answer = await team.do(call.name, pending.key, arguments.model_dump())
    faults.at("call-done")
    await log.finish(pending, answer)
