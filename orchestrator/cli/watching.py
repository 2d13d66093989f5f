"""`watch`: a run as it goes, for a person at a terminal. It only looks; `p` alone asks something of the run."""

import contextlib
import os
import re
import select
import signal
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from orchestrator.cli.app import Screen
from orchestrator.cli.process import asked, find, live_pid, tell
from orchestrator.cli.projects import watch as told
from orchestrator.cli.runs import Run
from orchestrator.control import Refusal, who
from orchestrator.watch import render
from orchestrator.watch.live import ALL, STILL, View, frame, look, pressed
from orchestrator.watch.render import Answer, visible

REFRESH_S: Final = 1.0
REST: Final = 4  # times as long as a look took: the journal of weeks takes its time, on cores that the run needs
KEY: Final = re.compile(r"\x1b(?:[\[O][0-9;]*[A-Za-z~])?|.", re.DOTALL)
NAMES: Final = {"\x1b[A": "up", "\x1b[B": "down", "\r": "enter", "\n": "enter", "\x1b": "esc"}
TOGGLES: Final[dict[str, dict[str, Any]]] = {"running": {"do": "pause", "now": False}, "paused": {"do": "resume"}}
"""What `p` asks for in which state of the run."""

Keys = Callable[[float], list[str]]
"""Waits for keys up to so many seconds and returns those that were pressed."""
Show = Callable[[Answer, View], None]


def watch(screen: Screen, run: Run = None) -> int:
    """The same as `status`, live, with each seat and the news. q or Ctrl-C ends the looking, never the run.

    Example: python -m orchestrator watch c-compiler-2
    """
    folder, console = find(screen.logs, run), Console(highlight=False)
    if screen.as_json:
        return told(folder, screen, "watch")
    if all(map(os.isatty, (0, 1))) and not console.is_dumb_terminal:
        with _keyboard(0) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            seen = _follow(folder, keys, lambda seen, view: live.update(frame(seen, view, *console.size), refresh=True))
        console.print(frame(seen, STILL, console.width, console.height - 2))
    else:
        seen = _follow(folder, _no_keys, _on_change(console))
    screen.give("watch", seen, render.status(seen).partition("\n")[0])
    return 0 if seen["healthy"] else 1


def _follow(folder: Path, keys: Keys, show: Show) -> Answer:
    """Shows one look after another until the run's process is gone or `q` is pressed; returns the last."""
    view = View()
    while True:
        began, alive = time.monotonic(), live_pid(folder) is not None  # both before the look: the last sees the end
        seen = asked(folder, partial(look, view=view))
        show(seen, view)
        if not alive:
            return seen
        for key in keys(max(REFRESH_S, REST * (time.monotonic() - began))):
            if key == "q":
                return seen
            view = pressed(view, key, [seat["seat"] for seat in seen["team"]])
            if key == "p":
                view = replace(view, word=_toggled(folder, seen["state"]))


def _toggled(folder: Path, state: str) -> str:
    """Pauses or resumes the run, as the commands do; returns what is to be said of that."""
    if not (asked_for := TOGGLES.get(state)):
        return f"{state}: it can neither be paused nor resumed from here"
    try:
        tell(folder, **asked_for)
    except Refusal as refused:
        return visible(refused)
    return f"{asked_for['do']}: asked for by {who()}"


@contextlib.contextmanager
def _keyboard(terminal: int) -> Iterator[Keys]:
    """Keys as they are pressed, unseen. Whatever ends this puts the terminal back, SIGTERM too."""
    ends = list[BaseException]()  # kept, because one that is raised while Python collects its garbage is lost

    def end(number: int, _: object) -> None:
        ends.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(143))
        raise ends[-1]

    def pressed_in(wait_s: float) -> list[str]:
        if ends:
            raise ends[-1]
        if not select.select([terminal], [], [], wait_s)[0]:
            return []
        typed = os.read(terminal, 1024).decode(errors="replace")
        return [NAMES.get(key, key) for key in KEY.findall(typed)] or ["q"]  # the end of it: nobody is there

    before = termios.tcgetattr(terminal)
    handlers = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    tty.setcbreak(terminal)
    try:
        yield pressed_in
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _no_keys(wait_s: float) -> list[str]:
    time.sleep(wait_s)
    return []


def _on_change(console: Console) -> Show:
    """Frames for a file or a pipe, with all seats: one when something has changed that is more than time."""
    last: list[object] = []

    def show(seen: Answer, _: View) -> None:
        now = [seen[name] for name in ("state", "suites", "queue", "attention", "seats", "below")]
        if now != last:
            console.print(frame(seen, STILL, console.width, len(seen["team"]) + ALL))
        last[:] = now

    return show
