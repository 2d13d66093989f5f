"""Workspace folders and the bounded disks behind them, and how a room's user gets to see host folders."""

from __future__ import annotations

import json
import os
from collections.abc import Container
from pathlib import Path
from typing import Final

from sandbox import limits
from sandbox.home import key
from sandbox.hosted import WORKSPACE, record
from sandbox.room import Mount, RoomSpec

BRIEF_INODES: Final = 20_000


class Workspaces:
    """The workspaces of one engine. What is mounted is written down, for a sweep after a crash."""

    def __init__(self, home: Path) -> None:
        self._mounts = home / "mounts"

    def prepare(self, spec: RoomSpec, uid: int) -> tuple[Mount, ...]:
        """All mounts of a room, its workspace first and bounded where this machine can: in memory for a case's room,
        else a disk of its own. As root, what is writable belongs to `uid`. Raises `OSError`, `RoomError`.

        A workspace stays mounted when the room stops, because other rooms may look at it; `discard` and `sweep` take
        it away.
        """
        mounts = spec.mounts
        if spec.workspace is not None:
            spec.workspace.mkdir(parents=True, exist_ok=True)
            if limits.can_mount():
                self._bound(spec, spec.workspace, uid)
            mounts = (Mount(spec.workspace, WORKSPACE, writable=True), *mounts)
        if os.geteuid() == 0:
            for mount in mounts:
                if mount.writable and mount.source.is_dir():
                    os.chown(mount.source, uid, uid)
        return mounts

    def sweep(self, run: str, epoch: int, in_use: Container[str], keep: Container[str]) -> None:
        """Unmounts what a run's earlier epochs left mounted, but for workspaces `in_use` and those of the rooms `keep`,
        which may be another engine's. Disks stay beside their folders."""
        for file in self._mounts.glob("*"):
            mine = record(file)
            if (
                mine.get("run") == run
                and mine["epoch"] < epoch
                and not (mine["path"] in in_use or mine["room"] in keep)
            ):
                for target in limits.mounts_below(Path(mine["path"])):
                    limits.unmount(target)
                file.unlink(missing_ok=True)

    def discard(self, workspace: Path) -> None:
        limits.discard(workspace)
        (self._mounts / key(str(workspace))).unlink(missing_ok=True)

    def _bound(self, spec: RoomSpec, workspace: Path, uid: int) -> None:
        self._mounts.mkdir(parents=True, exist_ok=True)
        mine = {"run": spec.labels.run, "epoch": spec.labels.epoch, "room": spec.name, "path": str(workspace)}
        (self._mounts / key(str(workspace))).write_text(json.dumps(mine))
        if os.path.ismount(workspace):
            return
        if spec.brief and not limits.image_of(workspace).exists():
            limits.scratch(workspace, uid, limits.tmp_bytes(spec.limits), BRIEF_INODES, mode="0755")
        elif limits.has_disks():
            limits.disk(workspace, uid, spec.limits)


def shown(source: Path, place: Path, *, noexec: bool = False, walk: bool = True) -> Path:
    """Where the room can reach `source`: there, or, as root, bound to a place in the room's own folder.

    `walk` says that the room's user must be able to walk to it by itself.
    """
    if not limits.can_mount() or (not noexec and (not walk or limits.reachable(source))):
        return source
    if not os.path.ismount(place):
        limits.bind(source, place, noexec=noexec)
    return place
