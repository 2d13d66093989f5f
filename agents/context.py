"""What of a transcript goes into the next request: all of it while it fits, then less. One transcript, one answer.

The vendor's cache pays for a prefix it has seen. So nothing is trimmed until the window's high mark is reached; then
old tool results go in one batch, which costs one uncached request, and the next many requests hit again. When that is
not enough the model is asked for a summary, which takes the place of the turns before it. The transcript keeps all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from agents.models.base import Block, Message, Opaque, Reply, Role, Text, ToolCall, ToolResult
from agents.team import End

BYTES_PER_TOKEN: Final = 3  # code and logs hold 3 to 4; the smaller number trims a little early
HIGH: Final = 0.6  # of the window: some vendors' windows hold the reply's share as well
LOW: Final = 0.7  # of that, which a batch must get below to be worth its uncached request
MOST_TOKENS: Final = 180_000  # beyond about 200,000 vendors charge a higher tier, for text that is seldom read again
FRESH_TURNS: Final = 6  # whose results are never trimmed
TRIMMED_CHARS: Final = 160  # what stays of an old result: its totals come first

ASK_FOR_SUMMARY: Final = (
    "[run] Your context is nearly full. Do not call a tool now. Write, in at most 60 lines, all you need to go on "
    "without what stands above: the task and its cases, what you found and where (files, lines), what you changed, "
    "what you tried that did not work, what is to be done next, and numbers of running jobs. Only this will stay."
)


@dataclass(frozen=True)
class Turn:
    """One reply, the results of its calls (those that are there), and what the run or a person said after it. `end` is
    what a stored answer ended the session with."""

    reply: Reply
    results: tuple[ToolResult, ...] = ()
    said: tuple[str, ...] = ()
    end: End | None = None


@dataclass(frozen=True)
class Summary:
    """What takes the place of the first `turns` turns."""

    turns: int
    text: str


@dataclass(frozen=True)
class Transcript:
    """A session so far. `opening` is the block the run wrote; `said` came before the first reply."""

    opening: str
    turns: tuple[Turn, ...] = ()
    summaries: tuple[Summary, ...] = ()
    said: tuple[str, ...] = ()


def messages(transcript: Transcript, window: int) -> tuple[Message, ...]:
    """The conversation as the next request carries it."""
    start, first = _beginning(transcript)
    turns = transcript.turns[start:]
    trimmed = _trimmed(first, turns, _room(window))
    return _joined([first, *(m for i, turn in enumerate(turns) for m in _turn(turn, short=i < trimmed))])


def overfull(transcript: Transcript, window: int) -> bool:
    """Whether trimming is not enough any more, so that a summary must be asked for: it would leave so little room that
    the next batch is due at once, and each batch is a prefix that the cache has not seen."""
    start, first = _beginning(transcript)
    turns, room = transcript.turns[start:], _room(window)
    trimmed = _trimmed(first, turns, room)
    size = _size([first]) + sum(_size(_turn(turn, short=i < trimmed)) for i, turn in enumerate(turns))
    due = trimmed > _trimmed(first, turns[:-1], room)
    return len(turns) > 1 and size > (room * LOW if due else room)


def for_summary(transcript: Transcript, window: int, squeezed: bool = False) -> tuple[Message, ...]:
    """The conversation with the request for a summary behind it. `squeezed`: the window proved smaller than we thought,
    so every old result is trimmed, and the oldest turns are left out until half of it is free.
    """
    if not squeezed:
        base = messages(transcript, window)
    else:
        start, first = _beginning(transcript)
        short = [_turn(turn, short=True) for turn in transcript.turns[start:]]
        while len(short) > 1 and _size([first]) + sum(map(_size, short)) > _room(window) // 2:
            short.pop(0)
        base = _joined([first, *(m for turn in short for m in turn)])
    return _joined([*base, Message(Role.USER, (Text(ASK_FOR_SUMMARY),))])


def _room(window: int) -> int:
    """Bytes of conversation that we let a window hold."""
    return int(min(window * HIGH, MOST_TOKENS) * BYTES_PER_TOKEN)


def _beginning(transcript: Transcript) -> tuple[int, Message]:
    said = tuple(Text(line) for line in transcript.said)
    if not transcript.summaries:
        return 0, Message(Role.USER, (Text(transcript.opening), *said))
    summary = transcript.summaries[-1]
    text = f"[run] What you noted when your context was full:\n{summary.text}"
    return summary.turns, Message(Role.USER, (Text(transcript.opening), Text(text)))


def _trimmed(first: Message, turns: tuple[Turn, ...], room: int) -> int:
    """How many of the turns have their results trimmed: found by going through the session as it went, so that each
    request repeats the decisions of those before it."""
    full = [0, *accumulate(_size(_turn(turn, short=False)) for turn in turns)]
    short = [0, *accumulate(_size(_turn(turn, short=True)) for turn in turns)]
    opening, trimmed = _size([first]), 0
    for count in range(1, len(turns) + 1):
        if opening + short[trimmed] + full[count] - full[trimmed] > room:
            trimmed = max(trimmed, count - FRESH_TURNS)
    return trimmed


def _turn(turn: Turn, short: bool) -> list[Message]:
    results = tuple(_shortened(result) if short else result for result in turn.results)
    heard: tuple[Block, ...] = (*results, *(Text(line) for line in turn.said))
    both = [Message(Role.ASSISTANT, turn.reply.blocks), Message(Role.USER, heard)]
    # Vendors refuse empty messages, and reasoning without anything that came of it.
    return [m for m in both if any(not isinstance(block, Opaque) for block in m.blocks)]


def _shortened(result: ToolResult) -> ToolResult:
    if len(result.text) <= 2 * TRIMMED_CHARS:
        return result
    return ToolResult(
        result.call, f"{result.text[:TRIMMED_CHARS]}\n[trimmed; run it again if you need it]", result.failed
    )


def _joined(parts: list[Message]) -> tuple[Message, ...]:
    """Messages of one side that follow each other become one: roles must alternate."""
    joined: list[Message] = []
    for part in parts:
        if joined and joined[-1].role is part.role:
            joined[-1] = Message(part.role, joined[-1].blocks + part.blocks)
        else:
            joined.append(part)
    return tuple(joined)


def _size(parts: list[Message]) -> int:
    return sum(_bytes(block) for part in parts for block in part.blocks)


def _bytes(block: Block) -> int:
    match block:
        case Text(text) | ToolResult(_, text):
            return len(text.encode("utf-8", "replace"))
        case ToolCall(_, name, arguments):
            return len(name) + len(json.dumps(dict(arguments), ensure_ascii=False).encode("utf-8", "replace"))
        case Opaque(_, data):
            return len(json.dumps(dict(data)))
