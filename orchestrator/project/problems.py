"""What can be wrong with a project's folder, said so that a person can mend it: file, line, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `line` counts from 1; 0 means that the file as a whole is meant."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class ProjectError(Exception):
    """The folder is not a valid project. Nothing was started."""

    kind = "config"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class LockDiffers(Exception):
    """The folder is not what `project.lock` (or the run) was made from. The message names what differs."""

    kind = "lock_differs"


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence: `; did you mean X?`, or what there is to choose from."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; known: {', '.join(names)}" if names else ""
