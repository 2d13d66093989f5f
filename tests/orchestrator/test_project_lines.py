"""Every key of a TOML text is found at the line where it stands, as far as project files go: what is written over
several lines inside an array or an inline table counts as one."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.project.reading import KeyPath, line_of

KEYS = st.sampled_from(["a", "b-1", "C_d", '"x y"', '"q\\"uote"', "'lit eral'", '"a.b"', '"#"'])
SCALARS = st.sampled_from(
    ["1", "-1.5e3", "true", '"text"', "'#no'", '"]"', '"a\\"b"', "1979-05-27 07:32:00", "''", '"""one"""', "'''two'''"]
)
KINDS = (["scalar"], ["scalar", "inline"], ["scalar", "long", "array", "inline"])  # by depth that is left
# Texts of several lines move everything after them down.
LONG = st.sampled_from(['"""\na = 1\n# "" b ]\n"""', "'''\n[x]\n''''", '"""\\\n  cut""""'])


class Writer:
    """Writes TOML piece by piece and remembers on which line each key was put."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def put(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.line)


@st.composite
def documents(draw: st.DrawFn) -> Writer:
    writer = Writer()

    def filler() -> None:
        writer.text += draw(st.sampled_from(["", "\n", "# [x] = {\n", "\t \n"]))

    def name(key: str) -> str:
        return str(next(iter(tomllib.loads(f"{key} = 1"))))

    def value(path: KeyPath, depth: int) -> None:
        kind = draw(st.sampled_from(KINDS[depth]))
        if kind in ("scalar", "long"):
            writer.text += draw(SCALARS if kind == "scalar" else LONG)
        elif kind == "array":
            writer.text += "["
            for index in range(draw(st.integers(0, 3))):
                writer.text += draw(st.sampled_from(["", "\n  ", " # ] ,\n"]))
                writer.put((*path, index))
                value((*path, index), depth - 1)
                writer.text += draw(st.sampled_from([",", " ,", "\n,"]))
            writer.text += draw(st.sampled_from(["]", "\n]", "# end\n ]"]))
        else:
            writer.text += "{ "
            pairs(path, 0, inline=True)
            writer.text += " }"

    def pairs(path: KeyPath, depth: int, inline: bool = False) -> None:
        keys = draw(st.lists(KEYS, max_size=3, unique_by=name))
        for number, key in enumerate(keys):
            if inline and number:
                writer.text += ", "
            elif not inline:
                filler()
            writer.put((*path, name(key)))
            dots = draw(st.sampled_from(["", ".deep", ' . "er"']))
            inner: KeyPath = (*path, name(key), *([dots.strip(' ."')] if dots else []))
            writer.put(inner)
            writer.text += key + dots + draw(st.sampled_from(["=", " = "]))
            value(inner, depth)
            if not inline:
                writer.text += draw(st.sampled_from(["\n", " # = [\n"]))

    pairs((), 2)
    for table in draw(st.lists(st.sampled_from(["t1", "t2", "t3.in"]), max_size=3, unique=True)):
        filler()
        path: KeyPath = tuple(table.split("."))
        for end in range(1, len(path) + 1):
            writer.put(path[:end])
        writer.text += f"[{table}] # [[no]]\n"
        pairs(path, 2)
    for index in range(draw(st.integers(0, 3))):
        filler()
        writer.put(("arr",))
        writer.put(("arr", index))
        writer.text += "[[arr]]\n"
        pairs(("arr", index), 2)
        if draw(st.booleans()):
            writer.put(("arr", index, "sub"))
            writer.text += "[ arr . sub ]\n"
            pairs(("arr", index, "sub"), 2)
    return writer


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return {(*path, key) for key, _ in items}.union(*(paths_of(inner, (*path, key)) for key, inner in items))


@settings(max_examples=100, deadline=None)
@given(documents())
def test_every_key_is_found_at_its_line(document: Writer) -> None:
    parsed = tomllib.loads(document.text)  # what we write is TOML, or the test is wrong
    assert set(document.lines) == paths_of(parsed)
    assert {path: line_of(document.text, path) for path in document.lines} == document.lines


def test_what_is_not_written_down_has_the_line_of_what_is_around_it() -> None:
    text = "a = 1\n\n[[suite]]\nname = 'x'\nsteps = [\n  'y',\n]\n"
    paths: list[KeyPath] = [(), ("b",), ("suite", 0, "run"), ("suite", 0, "steps", 7), ("suite", 3), ("a", "b")]
    assert [line_of(text, path) for path in paths] == [1, 1, 3, 5, 3, 1]
