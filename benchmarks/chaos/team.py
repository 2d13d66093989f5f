"""What chaos works on: a project whose judging is quick, and seats that follow a script.

A part is a file `parts/NAME.g` that shall hold its own name. Its group `g` is a case: each file of the group that is
there holds its name. So all groups pass from the start and can only be lost; the case `whole` passes once every part is
there. Some groups are held out. Every command of a seat writes a line into `/team/witness`, a pipe at whose other end
somebody outside of the run listens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.orchestrator.running import Step, shell, toml

GROUPS: Final = "abcdefghij"
ROLES: Final = {"builder": 2, "reader": 1, "writer": 1}  # scripted, and of two vendors
SUBMIT: Final[Step] = {"tool": "submit", "summary": "One part more", "fixes": []}
SYLLABLES: Final = [first + second for first in "klmnprstvz" for second in "aeiou"]

HAS: Final = """#!/bin/sh
# A group's files hold their names; `whole` counts them all.
cd "$ARTIFACTS/parts" || exit 1
read -r kind what _secret <"$CASE"
case $kind in
whole) [ "$(ls | wc -l)" -ge "$what" ] || { echo "ERROR parts are missing"; exit 1; } ;;
group) for file in *."$what"; do
        [ ! -e "$file" ] || { read -r text <"$file" && [ "$text" = "$file" ]; } ||
            { echo "ERROR $file does not hold its name"; exit 1; }
    done ;;
esac
"""
PROJECT: Final = """schema = 1
[image]
packages = ["git", "python3-minimal"]   # as projects/hello has it: one image for both
[build]
run = "! grep -l broken parts/* || { echo 'error: a part is broken'; exit 1; }"
artifacts = ["parts"]
time = "2m"
[limits]
cpus = 1
memory = "512M"
disk = "64M"
command = "5m"
[[suite]]
name = "parts"
cases = "suites/parts/*.txt"
run = "suites/has.sh"
time = "10s"
heldout = 0.3
[roles]
ROLES
[budget]
usd = 1000
session = 100
"""


def names(count: int, luck: random.Random) -> list[str]:
    """Parts, each with its group."""
    words = luck.sample([one + two + three for one in SYLLABLES for two in SYLLABLES for three in SYLLABLES], count)
    return [f"{word}.{luck.choice(GROUPS)}" for word in words]


def write_project(folder: Path, parts: int, luck: random.Random) -> Path:
    for name in ("seed/parts", "suites/parts", "prompts"):
        (folder / name).mkdir(parents=True)
    for group in GROUPS:
        (folder / f"seed/parts/seed.{group}").write_text(f"seed.{group}\n")
        secret = f"secret{luck.getrandbits(64):016x}"
        (folder / f"suites/parts/{group}.txt").write_text(f"group {group} {secret}\n")
    (folder / "suites/parts/whole.txt").write_text(f"whole {parts + len(GROUPS)} -\n")
    (folder / "goal.md").write_text("# Parts\n\nEach file `parts/NAME` shall hold NAME.\n")
    (folder / "suites/has.sh").write_text(HAS)
    (folder / "suites/has.sh").chmod(0o755)
    for role in set(ROLES) - {"builder"}:
        (folder / f"prompts/{role}.md").write_text(f"You are a {role}. Take a task, do it, submit it.\n")
    roles = "\n".join(f"{role} = {weight}" for role, weight in ROLES.items())
    (folder / "project.toml").write_text(PROJECT.replace("ROLES", roles))
    return folder


def said(phase: str) -> str:
    """A line for the witness: who, on what, how far, and in which workspace. It never stops a command."""
    mark = "[ -e .git/mark ] || cat /proc/sys/kernel/random/uuid >.git/mark"
    return f'{mark}; echo "$(git config user.name) {{task}} {phase} $(cat .git/mark)" >/team/witness'


def _made(part: str, *, also: str = "") -> Step:
    """Writes a part; doing it again changes nothing."""
    commit = f"git add -A && {{ git diff --cached --quiet || git commit -qm 'Part {part}'; }}"
    return shell(f"{said('makes')}; {also}echo {part} >parts/{part} && {commit}; {said('made')}")


def _session(part: str, kind: str, luck: random.Random) -> tuple[list[Any], list[Any]]:
    """The calls of a session for a part, and those after a bounce."""
    made, nap = _made(part), f"{luck.uniform(0.1, 1.5):.1f}"
    anew = shell("git fetch -q origin && git reset -q --hard origin/main")
    look = [shell(f"{said('looks')}; cat /team/GOAL.md /team/cases/*/*; ls /team /sources"), made]
    begins: dict[str, list[Any]] = {
        "plain": look,
        "slow": [shell(f"{said('sleeps')}; sleep {nap}"), made],
        "job": [shell(f"{said('job')}; sleep {nap}; {said('job-done')}", background=True), made],
        "verify": [made, {"tool": "verify", "what": "fast"}],
        "several": [[{"tool": "note", "topic": "{task}", "text": "at work"}, made, {"tool": "view", "path": "parts"}]],
        "breaker": [_made(part, also="echo broken >parts/seed.a; ")],
        "saboteur": [_made(part, also=f"echo wrong >parts/seed.{part[-1]}; ")],
        "clash": [_made(part, also=f"echo {part} >>list; ")],
    }
    # What a kill cut in the middle is made again: sessions end well more often than not.
    again = made if kind not in ("breaker", "saboteur", "clash") else begins[kind][0]
    return [*begins[kind], again, SUBMIT], [anew, made, made, SUBMIT]


KINDS: Final = ("plain", "slow", "job", "verify", "several", "breaker", "saboteur", "clash")
WEIGHTS: Final = (20, 20, 15, 10, 15, 5, 10, 5)


def write_team(file: Path, parts: Sequence[str], luck: random.Random) -> Path:
    text = ["usage = { input = 1000 }", "price = { input = 1.0, output = 0.0 }"]
    for part, kind in zip(parts, luck.choices(KINDS, WEIGHTS, k=len(parts)), strict=True):
        calls, bounce = _session(part, kind, luck)
        text += ["[[session]]", f'match = "*part {part}*"', f"calls = {toml(calls)}", f"on_bounce = {toml(bounce)}"]
    file.write_text("\n".join([*text, ""]))
    return file
