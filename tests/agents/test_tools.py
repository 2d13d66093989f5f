from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.hands import CHARS_A_LINE, SHOWN_CHARS, Hands, clipped
from agents.tools import Answer, BadArguments, InRoom, check, names, specs
from orchestrator.quoting import visible
from tests.agents.stage import FolderRoom

pytestmark = pytest.mark.anyio


class Desk:
    def __init__(self, folder: Path) -> None:
        self.room = FolderRoom(folder)
        self.workspace = folder / "workspace"
        self.hands = Hands(self.room)
        self.calls = 0

    async def __call__(self, tool: str, **arguments: object) -> Answer:
        self.calls += 1
        checked = check("builder", tool, arguments)
        assert isinstance(checked, InRoom)
        return await self.hands.do(checked, self.calls)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_each_role_sees_its_tools_and_only_planners_plan() -> None:
    assert names("builder") == (
        "shell", "wait", "view", "edit", "tasks", "claim", "verify", "submit", "release", "note",
    )  # fmt: skip
    assert names("planner") == (*names("builder"), "plan")
    shell = json.loads(json.dumps(specs("builder")[0].schema))
    assert shell == {
        "type": "object",
        "properties": {
            "command": {"maxLength": 32_000, "minLength": 1, "type": "string"},
            "timeout_s": {
                "anyOf": [{"exclusiveMinimum": 0, "type": "number"}, {"type": "null"}],
                "default": None,
                "description": "seconds; 120 unless in the background",
            },
            "background": {"default": False, "type": "boolean"},
            "lines": {
                "anyOf": [{"maximum": 400, "minimum": 1, "type": "integer"}, {"type": "null"}],
                "default": None,
                "description": "of its output that you see; 36 unless given",
            },
        },
        "required": ["command"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("tool", "arguments", "remedy"),
    [
        ("shell", {"command": "make", "timeout_s": 600}, "set background to true, then call wait"),
        ("shell", {"cmd": "make"}, "It takes command, timeout_s, background"),
        ("claim", {}, "give either task"),
        ("claim", {"task": "T1", "title": "x"}, "give either task"),
        ("tasks", {"show": "everything"}, "show:"),
        ("view", {"path": "a", "lines": "x"}, "lines:"),
        ("view", {"path": "a", "lines": "9" * 5000}, "lines:"),
        ("view", {"path": "a\0b"}, "path: Value error, a NUL character"),
        ("view", {"path": "a" * 200_000}, "path: String should have at most 4000 characters"),
        ("shell", {"command": "echo \0"}, "command: Value error, a NUL character"),
        (
            "shell",
            {"command": "#" * 200_000},
            "command: String should have at most 32000 characters.*`edit`.*JSON on stdin",
        ),
        ("shell", {"command": "make", "lines": 401}, "lines: Input should be less than or equal to 400"),
        ("shell", {"command": "echo \ud800"}, "command:"),
        ("wait", {"job": -1}, "job:"),
        ("wait", {"job": 10**400}, "job:"),
        ("plan", {"title": "x"}, "there is no tool 'plan' here"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(tool: str, arguments: dict[str, object], remedy: str) -> None:
    with pytest.raises(BadArguments, match=remedy):
        check("builder", tool, arguments)


async def test_what_the_machine_does_not_take_is_told_and_ends_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(7, "Argument list too long")

    monkeypatch.setattr(desk.room, "run", full)
    answer = await desk("shell", command="make")
    assert answer.refused and answer.text == "not done: [Errno 7] Argument list too long"


def test_one_name_is_taken_where_a_list_is_asked_for() -> None:
    assert check("builder", "submit", {"summary": "x", "fixes": "a/1, a/2"}).model_dump()["fixes"] == ["a/1", "a/2"]


async def test_a_command_says_how_it_ended_and_then_what_it_printed(desk: Desk) -> None:
    answer = await desk("shell", command="echo out; echo err >&2; echo more; exit 3")
    first, *rest = answer.text.splitlines()
    assert first.startswith("exit 3 after ") and rest == ["out", "err", "more"] and answer.refused


async def test_long_output_is_clipped_in_the_middle_and_kept_whole_in_the_room(desk: Desk) -> None:
    answer = await desk("shell", command="seq 1 5000")
    lines = answer.text.splitlines()
    assert len(lines) <= 40 and lines[1] == "1" and lines[-1] == "5000"
    assert "lines 15-4978 of 5000 left out; all of it: view /tmp/output/1.txt" in answer.text
    assert (await desk("view", path="/tmp/output/1.txt", lines="2500")).text.endswith("2500\t2500")


async def test_more_lines_are_shown_where_they_are_asked_for(desk: Desk) -> None:
    assert (await desk("shell", command="seq 1 400", lines=400)).text.splitlines()[1:] == [*map(str, range(1, 401))]
    await desk("shell", command="seq 1 500", background=True)
    job = (await desk("wait", job=2, lines=120)).text.splitlines()
    assert len(job) == 122 and job[49] == "… lines 49-428 of 500 left out; all of it: view /tmp/output/3.txt …"
    wide = (await desk("shell", command="yes $(seq 1 200 | tr -d '\\n') | head -400", lines=400)).text
    assert SHOWN_CHARS < len(wide) < 400 * CHARS_A_LINE + 200


@pytest.mark.parametrize("text", ["x" * 1_000_000, "y\n" * 100_000, ("z" * 5_000 + "\n") * 30, "é" * 100_000])
def test_no_output_is_longer_than_what_is_shown(text: str) -> None:
    shown = clipped(text, "/tmp/output/1.txt")
    assert len(shown) < SHOWN_CHARS + 200 and len(shown.splitlines()) <= 40
    assert "/tmp/output/1.txt" in shown


async def test_bytes_that_are_not_text_do_no_harm(desk: Desk) -> None:
    answer = await desk("shell", command=r"printf 'a\377\000b'")
    assert answer.text.endswith("a��b")


async def test_a_background_job_is_waited_for_by_its_number(desk: Desk) -> None:
    assert (await desk("shell", command="echo built", background=True)).text.startswith("job 1 started")
    answer = await desk("wait", job=1)
    assert answer.text.startswith("job 1: exit 0") and answer.text.endswith("built")
    assert (await desk("wait", job=7)).text == "there is no job 7 in this sandbox"


async def test_view_shows_numbered_lines_and_folders(desk: Desk) -> None:
    (desk.workspace / "src").mkdir()
    (desk.workspace / "src/a.rs").write_text("".join(f"line {n}\n" for n in range(1, 501)))
    (desk.workspace / "end").write_text("no newline")
    answer = await desk("view", path="src/a.rs", lines="10-12")
    first, *shown = answer.text.splitlines()
    assert first == "src/a.rs: lines 10-12 of 500; view src/a.rs 13-212 goes on"
    assert shown == ["    10\tline 10", "    11\tline 11", "    12\tline 12"]
    assert len((await desk("view", path="src/a.rs", lines="1-500")).text.splitlines()) == 201
    assert (await desk("view", path="src/a.rs", lines="401-600")).text.startswith("src/a.rs: 500 lines\n   401")
    assert (await desk("view", path=".")).text == ".: a folder, 2 entries\nend\nsrc/"
    assert (await desk("view", path="end")).text == "end: 1 lines\n     1\tno newline"
    missing = await desk("view", path="b.rs")
    assert missing.refused and missing.text == "b.rs: no such file or folder"


async def test_edit_replaces_one_exact_and_unique_text(desk: Desk) -> None:
    assert (await desk("edit", path="src/a.rs", old="", new="one\ntwo\ntwo\n")).text == "created src/a.rs, 3 lines"
    file = desk.workspace / "src/a.rs"
    assert (await desk("edit", path="src/a.rs", old="one\n", new="1\n1\n")).text == "edited src/a.rs:1-2"
    assert file.read_text() == "1\n1\ntwo\ntwo\n"
    twice = await desk("edit", path="src/a.rs", old="two", new="2")
    assert twice.refused and "there 2 times (lines 3, 4)" in twice.text
    absent = await desk("edit", path="src/a.rs", old="  twoo", new="2")
    assert absent.refused and "The nearest is:\n     3\ttwo" in absent.text
    exists = await desk("edit", path="src/a.rs", old="", new="2")
    assert exists.refused and "is there already" in exists.text
    nowhere = await desk("edit", path="nowhere", old="a", new="b")
    assert nowhere.refused and nowhere.text.startswith("not done: ")
    assert file.read_text() == "1\n1\ntwo\ntwo\n"


def test_control_characters_of_every_kind_are_made_visible() -> None:
    assert visible("a\x1b[2Jb\rc\x9b\x00") == r"a\x1b[2Jb\x0dc\x9b\x00"
    assert visible("safe\u202etxt.exe\u200b\u2028") == r"safe\u202etxt.exe\u200b\u2028"
    assert visible("ünï → 日本\n\tok") == "ünï → 日本\n\tok"
