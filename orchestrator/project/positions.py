"""Where each key of a TOML text stands: `tomllib` gives values without lines, and an error needs its line.

The text has been parsed by `tomllib` before it comes here, so it is valid, and this scanner only has to find its way:
it knows keys, strings, arrays and tables, and takes everything else as a word.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]  # ("suite", 2, "heldout"): the same steps that lead through the parsed value

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_STRING = re.compile(r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*\'''', re.DOTALL)
_WORD = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key, table and array element of a valid TOML text."""
    return _Scanner(text).scan()


def line_at(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of what is written down around it: a missing key has its table's line."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.breaks = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.lengths: dict[KeyPath, int] = {}  # elements so far of each array of tables

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.blank():
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def blank(self) -> bool:
        """Skips spaces, line ends and comments; says whether anything is left."""
        self.skip(_BLANK)
        return self.at < len(self.text)

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at line {self.line()}: {self.text[self.at : self.at + 20]!r}")
        self.at = match.end()
        return match.group()

    def line(self) -> int:
        return bisect.bisect_left(self.breaks, self.at) + 1

    def header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`. A step that is an array of tables means its last element."""
        line, array = self.line(), self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        keys = self.keys()
        self.at += 2 if array else 1
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self.inside((*path, key))
            self.lines.setdefault(path, line)
        path = (*path, keys[-1])
        if array:
            self.lines.setdefault(path, line)
            self.lengths[path] = self.lengths.get(path, 0) + 1
        path = self.inside(path)
        self.lines[path] = line
        return path

    def inside(self, path: KeyPath) -> KeyPath:
        return (*path, self.lengths[path] - 1) if path in self.lengths else path

    def keys(self) -> list[str]:
        """A dotted key, up to what follows it."""
        keys = []
        while True:
            self.blank()
            key = self.skip(_KEY)
            keys.append(str(tomllib.loads(f"k = {key}")["k"]) if key[0] in "\"'" else key)
            self.blank()
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def pair(self, table: KeyPath) -> None:
        line = self.line()
        path = table
        for key in self.keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self.blank()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        start = self.text[self.at]
        if start in "\"'":
            self.skip(_STRING)
        elif start in "[{":
            self.at += 1
            self.elements(path, "]" if start == "[" else "}")
        else:
            self.skip(_WORD)

    def elements(self, path: KeyPath, close: str) -> None:
        """The inside of an array or an inline table, up to and with its closing bracket."""
        index = 0
        while self.blank() and self.text[self.at] != close:
            if self.text[self.at] == ",":
                self.at += 1
            elif close == "}":
                self.pair(path)
            else:
                self.lines[(*path, index)] = self.line()
                self.value((*path, index))
                index += 1
        self.at += 1
