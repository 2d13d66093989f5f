"""Rooms without isolation, for machines that allow neither namespaces nor an engine. Never chosen, only asked for.

What is left still holds: time, output, memory of each process, whole process trees, jobs, and, as root, a host user of
its own for every room's commands. `/workspace` and mount targets are translated where the interface names them (`cwd`,
`read`, `write`); inside a command the workspace is at `$WORKSPACE`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from sandbox import limits, reap
from sandbox.home import key
from sandbox.hosted import BARE_ENV, WORKSPACE, HostedRoom, Place, sweep
from sandbox.process import Spawner
from sandbox.room import MIB, Command, Room, RoomError, RoomSpec


class LocalRoom(HostedRoom):
    """One room. As root its commands run as the room's own user, where that user can reach the workspace and mounts."""

    def __init__(self, spec: RoomSpec, place: Place, spawner: Spawner) -> None:
        super().__init__(spec, place, spawner)
        self._folder = spec.workspace or place.folder / "tmp"
        sources = (self._folder, *(mount.source for mount in spec.mounts))
        self._lowered = os.geteuid() == 0 and all(map(limits.reachable, sources))

    def prepare(self) -> None:
        """Makes the folders that commands write to. Raises `OSError`."""
        tmp = self._place.folder / "tmp"
        written = [tmp, self._folder, *(mount.source for mount in self._spec.mounts if mount.writable)]
        for folder in written:
            folder.mkdir(parents=True, exist_ok=True)
            if self._lowered:
                uid = limits.room_uid(self._spec)
                os.chown(folder, uid, uid)

    async def write(self, path: str, data: bytes) -> None:
        await super().write(self._host_path(path), data)

    async def read(self, path: str, limit: int = MIB) -> bytes:
        return await super().read(self._host_path(path), limit)

    def _argv(self, command: Command, name: str, status_fd: int, fds: list[int]) -> tuple[str, ...]:
        tmp = str(self._place.folder / "tmp")
        own = {"HOME": tmp, "TMPDIR": tmp, "WORKSPACE": str(self._folder)}
        env = BARE_ENV | own | dict(self._spec.env) | dict(command.env)
        here = replace(command, cwd=self._host_path(command.cwd))
        bounds = limits.inner(self._spec.limits, here, env, memory=True, processes=self._lowered, disk=True)
        user = limits.as_user(limits.room_uid(self._spec)) if self._lowered else ()
        reaper = (sys.executable, "-I", "-S", reap.__file__, "--argv0", self._place.tag + name, "--")
        return (*reaper, *user, "env", "-i", *bounds)

    def _host_path(self, path: str) -> str:
        path = path if path.startswith("/") else f"{WORKSPACE}/{path}"
        for target, source in self._targets():
            if path == target or path.startswith(target + "/"):
                return str(source) + path[len(target) :]
        return path

    def _targets(self) -> Iterator[tuple[str, Path]]:
        for mount in self._spec.mounts:
            yield mount.target, mount.source
        yield WORKSPACE, self._folder


class LocalEngine:
    """Makes rooms that do not isolate. `gaps` says what that means."""

    def __init__(self, home: Path) -> None:
        self._rooms = home / "local"
        self._spawner = Spawner()

    @property
    def name(self) -> str:
        return "local"

    async def open(self, spec: RoomSpec) -> Room:
        return await to_thread.run_sync(self._open, spec)

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return (await to_thread.run_sync(sweep, self._rooms, run, epoch, keep))[0]

    async def discard(self, workspace: Path) -> None:
        await to_thread.run_sync(limits.discard, workspace)

    def gaps(self) -> tuple[str, ...]:
        found = [
            "commands run on the host itself: they see its files, its processes and its programs",
            "commands reach every network that the host reaches",
            "a room's root is the host's own, and mounts are not made read-only",
            "memory is bounded for each process, not for a room as a whole",
            "the share of CPU is not bounded, only CPU time where a command sets it",
            "disk space and inodes are not bounded, only the size of each file",
            "what a room writes can be executed, whatever its specification says",
            "a process that forks faster than it can be found may outlive its command",
        ]
        if os.geteuid() == 0:
            found.append(
                "where a room's user cannot reach its mounts, its commands run as root, unbounded in processes"
            )
        else:
            found.append("the number of processes is not bounded")
            found.append("commands run as the orchestrator's user: they can end it and read what it can read")
        return tuple(found)

    def _open(self, spec: RoomSpec) -> LocalRoom:
        place = Place.of(self._rooms, key(spec.labels.run), key(spec.name), grouped=False)
        try:
            if spec.workspace is not None:
                spec.workspace.mkdir(parents=True, exist_ok=True)
            place.claim(spec)
            (place.folder / "tmp").mkdir(exist_ok=True)
            room = LocalRoom(spec, place, self._spawner)
            room.prepare()
        except OSError as error:
            raise RoomError(f"room {spec.name} cannot be opened: {error}") from error
        return room
