"""What of a transcript goes into the next request: all of it while it fits, then less. One transcript, one answer.

The vendor's cache pays for a prefix it has seen. So nothing is trimmed until the window's high mark is reached; then
old tool results go in one batch, which costs one uncached request, and the next many requests hit again. When that is
not enough the model is asked for a summary, which takes the place of the turns before it. The transcript keeps all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Final

from agents.models.base import Message, Opaque, Reply, Role, Stop, Text, ToolResult
from agents.tools import End

BYTES_PER_TOKEN: Final = 3  # code and logs hold 3 to 4; the smaller number trims a little early
HIGH: Final = 0.6  # of the window is what we let it hold: some vendors' windows hold the reply's share as well
LOW: Final = 0.7  # of that, which a batch must get below to be worth its uncached request
MOST_TOKENS: Final = 180_000  # beyond about 200,000 vendors charge a higher tier, for text that is seldom read again
FRESH_TURNS: Final = 6  # whose results are never trimmed
TRIMMED_CHARS: Final = 160  # what stays of an old result: its totals come first

CUT: Final = (Stop.LENGTH, Stop.CONTEXT)  # such a reply is paid for and stored, but its calls are not acted on (P1)
GO_ON: Final = "[run] Your reply was cut off at its length limit. Go on in smaller steps."
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

    @cached_property
    def whole(self) -> "_Part":
        """The turn as requests carry it: made once, because each request of a long session carries nearly all turns."""
        return _part(self, short=False)

    @cached_property
    def short(self) -> "_Part":
        """The same with its results trimmed."""
        return _part(self, short=True)


@dataclass(frozen=True)
class Transcript:
    """A session so far. `opening` is the block the run wrote; `said` came before the first reply. In requests `summary`
    takes the place of `said` and of the first `summed` turns."""

    opening: str
    turns: tuple[Turn, ...] = ()
    said: tuple[str, ...] = ()
    summed: int = 0
    summary: str = ""


def fitted(transcript: Transcript, window: int, squeezed: bool = False) -> tuple[tuple[Message, ...], bool]:
    """The conversation as the next request carries it, and whether it is too full, so that it ends with the request for
    a summary.

    Goes through the session as it went, so that each request repeats the trimming of those before it. Too full is also
    where the newest batch left so little room that the next is due at once: each is a prefix the cache has not seen.
    `squeezed`: the window proved smaller than we thought, so every old result is trimmed, and the oldest turns are left
    out until half of it is free.
    """
    noted = f"[run] What you noted when your context was full:\n{transcript.summary}"
    said = (noted,) if transcript.summary else transcript.said
    first = Message(Role.USER, (Text(transcript.opening), *map(Text, said)))
    turns = transcript.turns[transcript.summed :]
    room, size = int(min(window * HIGH, MOST_TOKENS) * BYTES_PER_TOKEN), _size([first])
    trimmed, due = 0, False  # how many turns' results are trimmed; whether the newest turn made it so
    for count, turn in enumerate(turns, 1):
        size += turn.whole.size
        if due := size > room and max(trimmed, count - FRESH_TURNS) > trimmed:
            old = count - FRESH_TURNS
            size -= sum(one.whole.size - one.short.size for one in turns[trimmed:old])
            trimmed = old
    sent = [*(turn.short for turn in turns[:trimmed]), *(turn.whole for turn in turns[trimmed:])]
    if squeezed:
        sent = [turn.short for turn in turns]
        while len(sent) > 1 and _size([first]) + sum(part.size for part in sent) > room // 2:
            sent.pop(0)
    summing = squeezed or (len(turns) > 1 and size > (room * LOW if due else room))
    ask = [Message(Role.USER, (Text(ASK_FOR_SUMMARY),))] if summing else []
    return _joined(chain([first], *(part.messages for part in sent), ask)), summing


@dataclass(frozen=True)
class _Part:
    """A turn's messages, and their size in bytes."""

    messages: tuple[Message, ...]
    size: int


def _part(turn: Turn, short: bool) -> _Part:
    results = map(_shortened, turn.results) if short else turn.results
    cut = turn.reply.stop in CUT and not turn.reply.calls  # a cut call is answered by its result
    said = turn.said or ((GO_ON,) if cut else ())
    both = [Message(Role.ASSISTANT, turn.reply.blocks), Message(Role.USER, (*results, *map(Text, said)))]
    # Vendors refuse empty messages, and reasoning without anything that came of it.
    sent = tuple(message for message in both if any(not isinstance(block, Opaque) for block in message.blocks))
    return _Part(sent, _size(sent))


def _shortened(result: ToolResult) -> ToolResult:
    if len(result.text) <= 2 * TRIMMED_CHARS:
        return result
    return replace(result, text=f"{result.text[:TRIMMED_CHARS]}\n[trimmed; run it again if you need it]")


def _joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Messages of one side that follow each other become one: roles must alternate. All others stay the objects that
    they were in the last request."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role is message.role:
            joined[-1] = Message(message.role, joined[-1].blocks + message.blocks)
        else:
            joined.append(message)
    return tuple(joined)


def _size(parts: Iterable[Message]) -> int:
    """Bytes, a little more than are sent: as our classes write themselves."""
    return sum(len(repr(block).encode()) for part in parts for block in part.blocks)
