"""Is this machine ready? A line for each thing that a run needs, with the remedy where something is amiss.

Everything is tried, not looked up: a program that is installed and does not work is missing. Nothing is changed, no
request leaves the machine, and of a key only whether it is set is looked at.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from agents.models.choose import KEYS
from sandbox.bubblewrap import BubblewrapEngine
from sandbox.docker import DockerEngine
from sandbox.image import builder_mode
from sandbox.room import GIB, EngineUnavailable

ENGINES: Final = (
    (BubblewrapEngine, "sysctl kernel.unprivileged_userns_clone=1, or a container that allows them"),
    (DockerEngine, "none needed where bubblewrap works; make setup"),
)


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # a run goes on with less
    MISSING = "missing"  # a run that needs it does not start


@dataclass(frozen=True)
class Line:
    """One finding. `remedy` is empty where nothing need be done, or nothing can."""

    name: str
    level: Level
    text: str
    remedy: str = ""


def examine(home: Path) -> list[Line]:
    """Looks at the machine, takes a second or two. A run can start when nothing is missing."""
    machine, engines = list(_machine(home)), list(_engines())
    if all(line.level is not Level.OK for line in engines):
        remedy = "allow user namespaces or install Docker; --sandbox local runs without any protection"
        engines.append(Line("sandbox", Level.MISSING, "nothing here isolates a room", remedy))
    return machine + engines


def _machine(home: Path) -> Iterator[Line]:
    yield Line("python", Level.OK, sys.version.split()[0])
    try:
        said = subprocess.run(("git", "--version"), capture_output=True, text=True, check=True).stdout.split()[2]
        old = tuple(map(int, said.split(".")[:2])) < (2, 38)  # merge-tree --write-tree
    except (OSError, subprocess.SubprocessError):
        said, old = "does not run", True
    yield _line("git", not old, f"git {said}", "apt-get install git: 2.38 or newer", Level.MISSING)
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().available
    yield _line("cores", cores > 1, f"{cores} cores", "seats and judges share it: expect waits")
    remedy = "one seat may use 4 GB: lower limits.memory or the number of agents"
    yield _line("memory", memory >= 4 * GIB, f"{memory / GIB:.1f} GB available", remedy)
    free = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists())).free
    remedy = "a run with several seats fills 20 GB: set ORCHESTRATOR_HOME elsewhere"
    yield _line("disk", free >= 20 * GIB, f"{free / GIB:.0f} GB free for {home}", remedy)
    try:
        yield Line("images", Level.OK, f"mmdebstrap builds them, mode {builder_mode()}")
    except EngineUnavailable as error:
        yield Line("images", Level.WARN, *str(error).split("; ", 1))
    yield Line("prices", Level.OK, f"genai-prices {version('genai-prices')}")
    for key in KEYS.values():
        known = bool(os.environ.get(key))
        yield _line(key, known, "set" if known else "not set", f"export {key}=… to use this vendor's models")


def _line(name: str, well: bool, text: str, remedy: str, amiss: Level = Level.WARN) -> Line:
    return Line(name, Level.OK, text) if well else Line(name, amiss, text, remedy)


def _engines() -> Iterator[Line]:
    """What each engine that isolates says of itself here: that it works, or why not, and what it cannot bound."""
    with TemporaryDirectory(prefix="orchestrator-doctor-") as place:
        Path(place).chmod(0o755)  # root's rooms run as other users, who must be able to walk there
        for make, remedy in ENGINES:
            engine = make(Path(place))
            try:
                engine.check()
            except EngineUnavailable as error:
                yield Line(engine.name, Level.WARN, str(error), remedy)
            else:
                yield Line(engine.name, Level.OK, f"{engine.name} makes sandboxes")
                yield from (Line(f"{engine.name} bounds", Level.WARN, gap) for gap in engine.gaps())
