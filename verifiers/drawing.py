"""What a project's `prepare` plug-in is given and gives back.

A case whose right answer is the same for all is answered without reading it. So a suite may name a Python file of the
project that rewrites each case on the trusted side, with a right answer drawn for this run and case:

    def twists(case_text: bytes, name: str) -> Mapping[str, int]:
        # Optional. The ways to rewrite this case, each with its weight in the draw; `project lock` keeps those
        # that the reference solution gets right.

    def prepare(case_text: bytes, name: str, draw: Draw) -> Prepared:
        # The files of the case as the candidate sees them, and the right answer, which it never sees.

`name` is the case's file name; the file that keeps this name in `Prepared.files` is the case, under a neutral name.
"""

import hashlib
import hmac
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from verifiers.suites import SuiteError


@dataclass(frozen=True)
class Draw:
    """The luck of one case in one run: the same each time it is asked, not to be foreseen without the secret."""

    key: bytes
    twist: str = ""

    def number(self, low: int, high: int, purpose: str = "") -> int:
        """A whole number from `low` to `high`, both included. Another `purpose` is another number."""
        digest = hmac.digest(self.key, f"number {purpose}".encode(), hashlib.sha256)
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)


@dataclass(frozen=True)
class Prepared:
    """A rewritten case and its right answer. `meanings` puts words to exit statuses, so that a reason can tell an
    agent what went wrong without telling the numbers that were drawn."""

    files: Mapping[str, bytes]
    expected_status: int = 0
    expected_stdout: bytes | None = None  # None: any
    meanings: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plugin:
    """A loaded `prepare` file of the frozen project. Whatever goes wrong in it is a `SuiteError`."""

    prepare: Callable[[bytes, str, Draw], Prepared]
    twists: Callable[[bytes, str], Mapping[str, int]]
    tried: Callable[[bytes, str], tuple[str, ...]]
    """The rewritings on offer for a case, each tried once."""


def load_plugin(path: Path, suite: str = "") -> Plugin:
    """Loads a project's trusted Python file, for a suite that mistakes are told of. Raises `SuiteError`."""

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            try:
                return function(*given)
            except (Exception, SystemExit) as error:
                about = f"fails on {given[1]}" if given[1:] else "cannot be loaded"
                raise SuiteError(f"{path.name} {about}: {type(error).__name__}: {error}", suite, "prepare") from error

        return call

    def tried(text: bytes, name: str) -> tuple[str, ...]:
        offered = twists(text, name)
        for twist in offered or {"": 1}:
            draw_for(b"", name, offered)
            prepare(text, name, Draw(b"", twist)).files[name]
        return tuple(sorted(offered))

    defined = guarded(runpy.run_path)(str(path))
    prepare, twists = defined.get("prepare"), defined.get("twists", lambda _text, _name: {})
    if not callable(prepare):
        raise SuiteError(f"{path.name} must define prepare(case_text, name, draw)", suite, "prepare")
    return Plugin(guarded(prepare), guarded(twists), guarded(tried))


def draw_for(secret: bytes, case: str, weights: Mapping[str, int]) -> Draw:
    """The draw of one case, its twist chosen by weight. No weights: no twist."""
    draw = Draw(hmac.digest(secret, case.encode(), hashlib.sha256))
    tickets = [twist for twist in sorted(weights) for _ in range(weights[twist])]
    return replace(draw, twist=tickets[draw.number(0, len(tickets) - 1, "twist")]) if tickets else draw
