"""What a commit of main says: the agent's words above, the run's trailers below, never the one for the other (P9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SUMMARY_LIMIT: Final = 4000  # characters of an agent's words that reach main
_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,119}")
# What git, or a person with grep, could take for a trailer, a divider before a patch, a comment or a scissors line.
_TRAILER_LIKE: Final = re.compile(r"[A-Za-z0-9_-]+[ \t]*[:=]|\(cherry picked from|---|#|diff |Index:")
_OWN: Final = re.compile(r"(run|seat|session|task|change)[ \t]*[:=]", re.IGNORECASE)


def message(summary: str, trailers: Mapping[str, str]) -> str:
    """A commit's message. The summary's words stay as they are, except that no line of it reads as a trailer.

    Raises `ValueError` for a trailer's value that is not an id. An empty one (no task) is left out.
    """
    for name, value in trailers.items():
        if value and not _VALUE.fullmatch(value):
            raise ValueError(f"trailer {name}: {value!r} is not an id (letters, digits and ._/@:+- only, at most 120)")
    printable = "".join(
        c for c in summary[:SUMMARY_LIMIT] if c.isprintable() or c == "\t" or len(c.splitlines()[0]) == 0
    )
    subject, *body = [line.rstrip() for line in printable.strip().splitlines()] or [""]
    if _OWN.match(subject) or subject.startswith(("#", "---")):
        subject = f'"{subject}"'
    body = [f" {line}" if _TRAILER_LIKE.match(line) else line for line in body]
    text = "\n".join([subject or "A change without a word", "", *body]).strip()
    return f"{text}\n\n" + "".join(f"{name}: {value}\n" for name, value in trailers.items() if value)
