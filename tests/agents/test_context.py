from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as some

from agents.context import ASK_FOR_SUMMARY, FRESH_TURNS, Transcript, Turn, fitted
from agents.models.base import Message, Opaque, Reply, Role, Stop, Text, ToolCall, ToolResult, Usage

WINDOW = 10_000  # 18,000 bytes of conversation


def turn(n: int, size: int, said: tuple[str, ...] = ()) -> Turn:
    id = f"c{n}"
    blocks = (Opaque("v", {"type": "thinking", "signature": f"s{n}"}), ToolCall(id, "view", {"path": str(n)}))
    return Turn(Reply(blocks, Stop.TOOLS, Usage(), "m"), (ToolResult(id, f"{n}: " + "x" * size),), said)


def messages(transcript: Transcript, window: int) -> tuple[Message, ...]:
    return fitted(transcript, window)[0]


def overfull(transcript: Transcript, window: int) -> bool:
    return fitted(transcript, window)[1]


def size_of(conversation: tuple[Message, ...]) -> int:
    return sum(len(str(message)) for message in conversation)


def test_while_it_fits_everything_is_sent_and_each_request_begins_with_the_one_before() -> None:
    turns = tuple(turn(n, 300, said=("[run] hello",) if n == 3 else ()) for n in range(10))
    before = messages(Transcript("open"), WINDOW)
    for count in range(1, 11):
        now = messages(Transcript("open", turns[:count]), WINDOW)
        assert now[: len(before)] == before
        before = now
    assert before[8].blocks[-1] == Text("[run] hello")


def test_old_results_go_in_batches_so_that_most_requests_still_hit_the_cache() -> None:
    turns = tuple(turn(n, 1_500) for n in range(60))
    kept, before, summaries = 0, messages(Transcript("open"), WINDOW), 0
    transcript = Transcript("open")
    for count in range(1, 61):
        transcript = replace(transcript, turns=turns[:count])
        if overfull(transcript, WINDOW):
            transcript = Transcript("open", turns[:count], summed=count, summary="so far")
            summaries += 1
        now = messages(transcript, WINDOW)
        kept += now[: len(before)] == before
        before = now
        assert size_of(now) < 30_000
    assert kept >= 48 and summaries >= 1


def test_the_newest_results_are_whole() -> None:
    before = messages(Transcript("open", tuple(turn(n, 1_500) for n in range(20))), WINDOW)
    fresh = [block.text for m in before[-2 * FRESH_TURNS :] for block in m.blocks if isinstance(block, ToolResult)]
    assert all(len(text) > 1_500 for text in fresh)


def test_reasoning_and_calls_are_never_trimmed() -> None:
    transcript = Transcript("open", tuple(turn(n, 5_000) for n in range(20)))
    kept = [b for m in messages(transcript, WINDOW) for b in m.blocks if isinstance(b, Opaque | ToolCall)]
    assert len(kept) == 40


@settings(deadline=None)  # a slow machine is no failure
@given(
    sizes=some.lists(some.integers(0, 4_000), min_size=1, max_size=40),
    summary=some.integers(0, 40),
)
def test_a_request_is_always_well_formed(sizes: list[int], summary: int) -> None:
    """Sides alternate, the first and the last are the user's, no message is empty, each call has its result."""
    turns = tuple(turn(n, size) for n, size in enumerate(sizes))
    transcript = Transcript("open", turns, summed=min(summary, len(turns)), summary="so far" if summary else "")
    for squeezed in (False, True):
        conversation, summing = fitted(transcript, WINDOW, squeezed)
        assert (conversation[-1].blocks[-1] == Text(ASK_FOR_SUMMARY)) is summing
        assert summing or not squeezed
        assert [m.role for m in conversation[::2]] == [Role.USER] * (len(conversation) // 2 + 1)
        assert [m.role for m in conversation[1::2]] == [Role.ASSISTANT] * (len(conversation) // 2)
        assert all(m.blocks for m in conversation)
        calls = [b.id for m in conversation for b in m.blocks if isinstance(b, ToolCall)]
        assert calls == [b.call for m in conversation for b in m.blocks if isinstance(b, ToolResult)]


def test_what_trimming_cannot_shrink_asks_for_a_summary_which_then_stands_for_the_turns() -> None:
    turns = tuple(turn(n, 6_000) for n in range(8))
    transcript = Transcript("open", turns)
    assert overfull(transcript, WINDOW)
    summed = Transcript("open", (*turns, turn(9, 10)), summed=8, summary="T1 half done")
    assert not overfull(summed, WINDOW)
    sent = messages(summed, WINDOW)
    assert len(sent) == 3 and "T1 half done" in str(sent[0].blocks[1])


def test_a_squeezed_request_for_a_summary_is_small() -> None:
    transcript = Transcript("open", tuple(turn(n, 6_000) for n in range(200)))
    assert size_of(fitted(transcript, WINDOW, squeezed=True)[0]) < 30_000


def test_an_empty_reply_and_reasoning_alone_are_left_out() -> None:
    alone = Turn(Reply((Opaque("v", {}),), Stop.LENGTH, Usage(), "m"), said=("[run] cut off",))
    assert messages(Transcript("open", (alone,)), WINDOW) == (
        Message(Role.USER, (Text("open"), Text("[run] cut off"))),
    )
