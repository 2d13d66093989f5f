"""What models and programs printed, made safe to show to a person: nothing in it can move a cursor or hide a word."""

from __future__ import annotations

import unicodedata

# Cc: terminal escapes. Cf: text direction, zero width. Zl, Zp: other line breaks. Cs: half a character.
HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")


def visible(text: str) -> str:
    r"""Control, format and separator characters written out: `\x1b`, `\u202e`. Newlines and tabs stay as they are."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(c) if unicodedata.category(c) in HIDDEN and c not in "\n\t" else c for c in text)


def _written(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
