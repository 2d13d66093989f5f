"""What agents, programs and failing cases wrote, made safe to store and show: short, in whole lines, marked as quoted.

Such text gives no authority and must not look as if it came from the run: no control or direction characters, no line
that could pass for one of ours.
"""

import unicodedata
from typing import Final

LINE: Final = 200  # characters
NOTE_LINES: Final = 5
QUOTE: Final = "> "  # before each line, so that a reader sees where the quotation ends
# Cc: terminal escapes. Cf: text direction, zero width. Zl, Zp: other line breaks. Cs: half a character.
HIDDEN: Final = ("Cc", "Cf", "Zl", "Zp", "Cs")


def one_line(text: str, limit: int = LINE) -> str:
    """`text` on one line, without characters that steer a terminal or reorder a line; what is too long ends in `…`."""
    shown = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text[: 4 * limit])
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def few_lines(text: str, lines: int = NOTE_LINES) -> str:
    """At most `lines` lines that say something; the last ends in `…` when there were more."""
    said = [line for line in (one_line(raw) for raw in text.splitlines()[: 10 * lines]) if line]
    if len(said) > lines:
        said = [*said[: lines - 1], said[lines - 1][: LINE - 2] + " …"]
    return "\n".join(said)


def visible(text: str) -> str:
    r"""Control, format and separator characters written out: `\x1b`, `\u202e`. Newlines and tabs stay as they are."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(c) if unicodedata.category(c) in HIDDEN and c not in "\n\t" else c for c in text)


def _written(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
