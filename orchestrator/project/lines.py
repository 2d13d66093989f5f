"""Where each key of a TOML text stands: `tomllib` gives values without lines, and an error needs its line.

The text has been parsed by `tomllib` before it comes here, so it is valid, and this reader only has to find its way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import count

KeyPath = tuple[str | int, ...]  # ("suite", 2, "heldout"): the same steps that lead through the parsed value

_TOKEN = re.compile(
    r'''#[^\n]*|"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*\''''
    r"""|[\[\]{},=.]|[^\s\[\]{},=.#"']+""",
    re.DOTALL,
)


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key, table and array element of a valid TOML text."""
    found = [match for match in _TOKEN.finditer(text) if not match[0].startswith("#")]
    tokens = [(text.count("\n", 0, match.start()) + 1, match[0]) for match in found]
    return _Reader(tokens[::-1]).read()


def line_at(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of what is written down around it: a missing key has its table's line."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Reader:
    def __init__(self, tokens: list[tuple[int, str]]) -> None:
        self.tokens = tokens  # with their lines, the next one last
        self.lines: dict[KeyPath, int] = {}
        self.lengths: dict[KeyPath, int] = {}  # elements so far of each array of tables

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.tokens:
            if self.next() == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def next(self) -> str:
        return self.tokens[-1][1]

    def take(self, *expected: str) -> bool:
        """Takes the next token if it is an expected one."""
        return bool(self.tokens) and self.next() in expected and bool(self.tokens.pop())

    def key(self) -> list[str]:
        """A dotted key, up to what follows it."""
        key: list[str] = []
        while not key or self.take("."):
            _, token = self.tokens.pop()
            key.append(str(tomllib.loads(f"k = {token}")["k"]) if token[0] in "\"'" else token)
        return key

    def header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`. A step that is an array of tables means its last element."""
        line, _ = self.tokens.pop()
        path: KeyPath = ()
        array = self.take("[")
        *above, last = self.key()
        for step in above:
            path = self.inside((*path, step))
            self.lines.setdefault(path, line)
        path = (*path, last)
        if array:
            self.lines.setdefault(path, line)
            self.lengths[path] = self.lengths.get(path, 0) + 1
            self.take("]")
        self.take("]")
        path = self.inside(path)
        self.lines[path] = line
        return path

    def inside(self, path: KeyPath) -> KeyPath:
        return (*path, self.lengths[path] - 1) if path in self.lengths else path

    def pair(self, path: KeyPath) -> None:
        line, _ = self.tokens[-1]
        for step in self.key():
            path = (*path, step)
            self.lines.setdefault(path, line)
        self.take("=")
        self.value(path)

    def value(self, path: KeyPath) -> None:
        line, token = self.tokens.pop()
        if token == "[":
            for index in count():
                if self.take("]"):
                    return
                self.lines[(*path, index)] = self.tokens[-1][0]
                self.value((*path, index))
                self.take(",")
        elif token == "{":
            while not self.take("}"):
                self.pair(path)
                self.take(",")
        elif token[0] not in "\"'":  # numbers and dates may be several tokens
            while self.tokens and self.tokens[-1][0] == line and self.next() not in (",", "]", "}"):
                self.tokens.pop()
