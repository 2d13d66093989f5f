"""The failure signature of a verdict: one cause, one signature, so that one cause becomes one task with one owner.

A signature is made of the suite, the kind of failure, the first line of the reason with everything particular taken out
of it, and the place in the candidate's own source that the reason names, if it names one. Line numbers are left out:
they move with every change above them.
"""

import re

from verifiers.scorecard import Outcome, Verdict

LONGEST = 160  # characters of the normalized reason

_PANIC = re.compile(
    r"thread '[^']*'(?: \(\d+\))? panicked at (?:'(?P<message>.*)', )?(?P<place>[\w./-]+\.rs):\d+(?::\d+)?:?"
)
_PLACE = re.compile(r"(?<![\w/])(src/[\w/.-]+?\.\w+):\d+(?::\d+)?")
_QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|\u2018[^\u2019]*\u2019|\u201c[^\u201d]*\u201d")
_NUMBER = re.compile(r"-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?(?=[a-zA-Z]{0,2}\b)")
# In this order: an address in a quoted name is part of the name, a number in a path is part of the path.
_PARTICULARS = (
    (re.compile(r"(?:\.{0,2}/)[\w.+@~-]+(?:/[\w.+@~-]+)*/?(?::\d+)*|\b[\w+-]+(?:/[\w.+-]+)+(?::\d+)*"), "<path>"),
    (re.compile(r"\b[\w.+-]+\.(?:c|h|s|o|rs|toml)\b(?::\d+)*"), "<path>"),
    (re.compile(r"\b0[xX][0-9a-fA-F]+\b|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b"), "<hex>"),
)


def signature(verdict: Verdict) -> str:
    """`suite | kind | normalized reason | place`; "" for a case that passed or was skipped.

    Equal for verdicts that differ only in numbers, addresses, paths, quoted names, the case's name or spacing.
    """
    if verdict.outcome in (Outcome.PASS, Outcome.SKIP):
        return ""
    suite, _, name = verdict.case.partition("/")
    line = next((line for line in verdict.reason.splitlines() if line.strip()), "")
    place = ""  # the file of the candidate that the reason blames
    if panic := _PANIC.search(line):
        place = panic["place"]
        line = f"{line[: panic.start()]}panicked: {panic['message'] or ''}{line[panic.end() :]}"
    elif found := _PLACE.search(line):
        place = found[1]
    # A quoted name is particular; a quoted sign, such as ';', says what was expected.
    line = _QUOTED.sub(lambda quoted: "<name>" if re.search(r"\w", quoted[0]) else quoted[0], line)
    for pattern, word in _PARTICULARS:
        line = pattern.sub(word, line)
    if name:
        line = re.sub(rf"(?<![\w.<-]){re.escape(name)}(?![\w>-])", "<case>", line)
    reason = " ".join(_NUMBER.sub("<n>", line).split())[:LONGEST]
    return f"{suite} | {verdict.outcome.name.lower()} | {reason} | {place}"
