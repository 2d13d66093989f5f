from __future__ import annotations

from pathlib import Path

import pytest

from agents.models.base import Block, Message, Reply, Request, Role, Stop, Text, ToolResult
from agents.models.scripted import Scripted, ScriptError

pytestmark = pytest.mark.anyio

BUILDER = "You are agent-02, a builder, in session 1 of this seat.\nTask: {task}    Left for this session: 5 USD"
PLANNER = "You are agent-01, a planner, in session 1 of this seat.\nTask: none yet: call tasks    Left: 5 USD."


def write(file: Path, text: str) -> None:
    file.write_text(text)


class Talk:
    """A conversation that answers each reply with the given results."""

    def __init__(self, file: Path, opening: str) -> None:
        self.model = Scripted(file)
        self.messages = [Message(Role.USER, (Text(opening),))]

    async def next(self, *results: str, failed: bool = False) -> list[tuple[str, dict[str, object]]] | str:
        reply = await self.reply(*results, failed=failed)
        if reply.calls:
            return [(call.name, dict(call.arguments)) for call in reply.calls]
        return " ".join(block.text for block in reply.blocks if isinstance(block, Text))

    async def reply(self, *results: str, failed: bool = False) -> Reply:
        if results:
            calls = [block for block in self.messages[-1].blocks if not isinstance(block, Text)]
            answers: tuple[Block, ...] = tuple(
                ToolResult(call.id, text, failed)  # type: ignore[union-attr]  # the script wrote only calls
                for call, text in zip(calls, results, strict=True)
            )
            self.messages.append(Message(Role.USER, answers))
        reply = await self.model.reply(Request("", (), tuple(self.messages)))
        self.messages.append(Message(Role.ASSISTANT, reply.blocks))
        return reply


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "team.toml"


async def test_without_a_task_it_claims_the_top_ready_one_and_plays_the_entry_that_matches(file: Path) -> None:
    write(
        file,
        '[[session]]\nmatch = "*parser*"\ncalls = [{ tool = "note", topic = "x", text = "y" }]\n'
        '[[session]]\nmatch = "T9*"\nclose = "Bye {task}."\n'
        'calls = [{ tool = "verify", what = "{case}" },\n'
        '  [{ tool = "view", path = "{a}" }, { tool = "shell", command = "{task}" }]]',
    )
    talk = Talk(file, BUILDER.format(task="none yet: call tasks"))
    assert await talk.next() == [("tasks", {})]
    assert await talk.next("2 ready\nT4 taken soon\nT9  lexer  2 cases") == [
        ("claim", {"task": "T4", "plan": "as the script says"})
    ]
    assert await talk.next("T4 is held by agent-03", failed=True) == [("tasks", {})]
    assert await talk.next("T4 taken\nT9 lexer") == [("claim", {"task": "T9", "plan": "as the script says"})]
    assert await talk.next("T9 lexer\n2 cases: unit/lex-1@x86, unit/lex-2") == [("verify", {"what": "unit/lex-1@x86"})]
    assert await talk.next("ok") == [("view", {"path": "{a}"}), ("shell", {"command": "T9"})]
    assert await talk.next("a", "b") == "Bye {task}."


async def test_a_refusal_that_a_vendor_does_not_mark_as_one_is_not_met_with_the_same_claim_again(file: Path) -> None:
    """OpenAI's results have no flag for a failure: only the text tells."""
    write(file, '[[session]]\nmatch = "*lexer*"')
    talk = Talk(file, BUILDER.format(task="none yet: call tasks"))
    await talk.next()
    assert await talk.next("T4 parser\nT9 lexer") == [("claim", {"task": "T4", "plan": "as the script says"})]
    assert await talk.next("C3 in the merge queue already fixes T4: take another task") == [("tasks", {})]
    assert await talk.next("T4 parser\nT9 lexer") == [("claim", {"task": "T9", "plan": "as the script says"})]


async def test_nothing_ready_ends_the_session(file: Path) -> None:
    write(file, '[[session]]\nmatch = "*"')
    talk = Talk(file, BUILDER.format(task="none yet: call tasks"))
    await talk.next()
    assert await talk.next("nothing is ready: 3 claimed") == "Nothing is ready."


async def test_the_task_of_the_opening_block_is_held_from_the_start(file: Path) -> None:
    write(file, '[[session]]\nmatch = "int-literals"\ncalls = [{ tool = "submit", summary = "{task}" }]')
    assert await Talk(file, BUILDER.format(task="T3 int-literals")).next() == [("submit", {"summary": "T3"})]


async def test_a_bounce_plays_its_own_calls_once_and_then_gives_the_task_back(file: Path) -> None:
    write(
        file,
        '[[session]]\nmatch = "*"\ncalls = [{ tool = "submit", summary = "a" }]\n'
        'on_bounce = [{ tool = "shell", command = "git pull" }, { tool = "submit", summary = "b" }]',
    )
    talk = Talk(file, BUILDER.format(task="T3 x"))
    await talk.next()
    assert await talk.next("bounced: loses 1 case", failed=True) == [("shell", {"command": "git pull"})]
    assert await talk.next("exit 0") == [("submit", {"summary": "b"})]
    assert (await talk.reply("bounced: loses 1 case", failed=True)).calls[0].name == "release"


async def test_a_task_without_an_entry_is_released_and_not_claimed_again(file: Path) -> None:
    write(file, '[[session]]\nmatch = "nothing"')
    talk = Talk(file, BUILDER.format(task="T3 x"))
    assert (await talk.reply()).calls[0].name == "release"
    assert await talk.next("T3 released, work kept") == [("tasks", {})]
    assert await talk.next("T3 x") == "Nothing is ready."


async def test_an_entry_for_a_role_alone_needs_no_task(file: Path) -> None:
    write(
        file,
        '[[session]]\nrole = "planner"\nclose = "Planned."\n'
        'calls = [{ tool = "plan", title = "a", after = ["T1"] }]\n[[session]]\nmatch = "*"',
    )
    talk = Talk(file, PLANNER)
    assert await talk.next() == [("plan", {"title": "a", "after": ["T1"]})]
    assert await talk.next("T2 a") == "Planned."
    assert await Talk(file, BUILDER.format(task="none yet")).next() == [("tasks", {})]


async def test_the_next_reply_depends_on_file_and_conversation_alone(file: Path) -> None:
    write(file, '[[session]]\nmatch = "*"\ncalls = [{ tool = "tasks" }, { tool = "verify" }]\n[usage]\ninput = 5')
    talk = Talk(file, BUILDER.format(task="T3 x"))
    await talk.next()
    reply = await talk.reply("T3")
    again = await Scripted(file).reply(Request("other", (), tuple(talk.messages[:-1])))
    assert (again.blocks, again.usage.input, again.stop) == (reply.blocks, 5, Stop.TOOLS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[session]]\nmatch = "a"\n[[session]]\nmatch = "b"\ncals = []', "session.1.cals: Extra inputs"),
        (
            '[[session]]\nmatch = "a"\ncalls = [{ command = "x" }]',
            "session.0.calls.0: Value error, a call needs tool =",
        ),
        ("[[session]]\ncalls = []", "session.0: Value error, needs match"),
        ("[usage]\ninptu = 3\n[[session]]\nmatch = 'a'", "usage.inptu: "),
        ("[price]\ninput = -3\n[[session]]\nmatch = 'a'", "price.input: Input should be greater than or equal to 0"),
        ('[[session]]\nmatch = "a', "Unterminated string (at end of document)"),
        ("[[session]]\nmatch = a", "Invalid value (at line 2, column 9)"),
        ("", "session: Field required"),
    ],
)
def test_a_wrong_script_is_refused_with_its_file_and_the_place(file: Path, text: str, words: str) -> None:
    write(file, text)
    with pytest.raises(ScriptError) as error:
        Scripted(file)
    assert str(error.value).startswith(f"{file}: {words}")
