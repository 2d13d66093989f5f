"""Gives each torture case a right answer of its own, drawn for this run: a status, or a status for aborting.

A torture case says "right" with exit 0 and "wrong" with `abort`, so a compiler that emits `exit(0)` for everything
would pass all of them. Both rewritings therefore wrap the case's `main`, `exit` and `abort` so that ending well gives
one drawn status and aborting another.

- `status`: the case as it is. The right answer is the drawn status for ending well.
- `inverse`: one comparison that guards an `abort` is turned round (the middle one of the file). The right answer is
  the drawn status for aborting. A compiler that reads the first status out of the source loses all of these, and one
  that always aborts gives SIGABRT, which is never right.

What the reference compiler does not get right is dropped for each rewriting apart, by `project lock`.
"""

import re
from collections.abc import Mapping

from verifiers.drawing import Draw, Prepared

# The names are part of the test: neither a case nor a system header uses them.
BEFORE = b"""\
void drawn_exit (int);
void drawn_abort (void);
#define exit drawn_exit
#define abort drawn_abort
#define __builtin_abort drawn_abort
#define main drawn_main
#line 1
"""
# Plain enough for a compiler's first week: a declaration, a call, `if` and `return`.
AFTER = b"""
#undef exit
#undef abort
#undef __builtin_abort
#undef main
extern void exit (int);
void drawn_exit (int status) { if (status) exit (status); exit (%(well)d); }
void drawn_abort (void) { exit (%(aborted)d); }
int main (%(takes)s)
{
%(call)s  return %(well)d;
}
"""
# A main without `return` gives 0 by the language's rule for main, which it no longer is: its value is not asked for.
CALL = {True: b"  int status = drawn_main (%s);\n  if (status) return status;\n", False: b"  drawn_main (%s);\n"}
MAIN = re.compile(rb"\bmain\s*\(.*", re.DOTALL)
ARGUMENTS = re.compile(rb"\bmain\s*\(\s*(?:int|argc|const|char)\b")
# An `if` that aborts, and a comparison in its condition that is no part of a shift or an arrow.
GUARD = re.compile(rb"\bif\s*\((?P<condition>[^;{}]*?)\)\s*(?:\{\s*)?(?:__builtin_)?abort\s*\(\s*\)")
COMPARISON = re.compile(rb"(?<![<>=!-])(==|!=|<=|>=|<|>)(?![<>=])")
TURNED = {b"==": b"!=", b"!=": b"==", b"<": b">=", b">=": b"<", b">": b"<=", b"<=": b">"}
# Statuses that nothing gives by accident: not 0 or 1, not automake's 77 and 99, not a shell's 126 and up.
STATUSES = [status for status in range(3, 125) if status not in (77, 99)]


def twists(case_text: bytes, name: str) -> Mapping[str, int]:
    """Every second case that can be turned round is: a third of all, since not every case can."""
    return {"status": 1, "inverse": 1} if turned(case_text) is not None else {"status": 1}


def prepare(case_text: bytes, name: str, draw: Draw) -> Prepared:
    inverse = draw.twist == "inverse"
    body = turned(case_text) if inverse else case_text
    if body is None:
        raise ValueError(f"{name}: has no guarded abort that could be turned round")
    first = draw.number(0, len(STATUSES) - 1, "well")
    step = draw.number(1, len(STATUSES) - 1, "aborted")
    well, aborted = STATUSES[first], STATUSES[(first + step) % len(STATUSES)]
    takes, gives = (b"int count, char **words", b"count, words") if ARGUMENTS.search(case_text) else (b"void", b"")
    main = MAIN.search(case_text)
    call = CALL[main is None or b"return" in main[0]] % gives
    text = BEFORE + body + AFTER % {b"well": well, b"aborted": aborted, b"takes": takes, b"call": call}
    meanings = {well: "ended well", aborted: "called abort"}
    return Prepared({name: text}, aborted if inverse else well, meanings=meanings)


def turned(text: bytes) -> bytes | None:
    """The case with the middle one of its guarding comparisons turned round; None where there is none."""
    spots = [
        (guard.start("condition") + comparison.start(), comparison[0])
        for guard in GUARD.finditer(text)
        for comparison in COMPARISON.finditer(guard["condition"])
    ]
    if not spots:
        return None
    start, sign = spots[len(spots) // 2]
    return text[:start] + TURNED[sign] + text[start + len(sign) :]
