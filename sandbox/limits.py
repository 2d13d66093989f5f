"""What bounds a room's commands on this machine: host users, rlimits, control groups.

As root everything is bounded: each room user is a host user of its own, and a control group holds memory, processes and
CPU. As an ordinary user only rlimits are left; what they cannot bound, the engines declare as gaps.
"""

import contextlib
import hashlib
import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sandbox.reap import send
from sandbox.room import Command, Limits, RoomSpec

FIRST_UID: Final = 200_000
USERS_PER_RUN: Final = 1_000
RUN_SLOTS: Final = 4_000


def host_uid(run: str, user: int) -> int:
    """The host user of a room's user: the same in every epoch of a run, another in (nearly) every other run."""
    if not 0 <= user < USERS_PER_RUN:
        raise ValueError(f"user must be in 0..{USERS_PER_RUN - 1} (got {user})")
    slot = int.from_bytes(hashlib.sha256(run.encode()).digest()[:4], "big") % RUN_SLOTS
    return FIRST_UID + slot * USERS_PER_RUN + user


def room_uid(spec: RoomSpec) -> int:
    """Who runs the room's commands on the host: a user of their own as root, else we ourselves."""
    return host_uid(spec.labels.run, spec.user) if os.geteuid() == 0 else os.geteuid()


def as_user(uid: int) -> tuple[str, ...]:
    """The prefix that becomes another user, without any capability, for good; empty for an ordinary user."""
    who = ("--reuid", str(uid), "--regid", str(uid), "--clear-groups")
    drop = ("setpriv", *who, "--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs")
    return drop if os.geteuid() == 0 else ()


# What runs first inside every room, in the room's own shell: bounds that must be set inside (RLIMIT_NPROC counts by
# user namespace), the folder, and a subshell for the command, so that the shell stays behind to reap. Its own remarks
# ("Killed") go nowhere; the command's stderr is descriptor 9 meanwhile.
INNER: Final = (
    'cd -- "$1" 2>/dev/null || { echo "cannot enter the folder $1" >&2; exit 126; }; unset OLDPWD; n=$2; shift 2; '
    'exec 9>&2 2>/dev/null; (while [ "$n" -gt 0 ]; do export "$1"; shift; n=$((n - 1)); done; exec "$@" 2>&9 9>&-); '
    "exit $?"
)


def inner(spec: RoomSpec, command: Command, env: Mapping[str, str], *also: str) -> tuple[str, ...]:
    """The shell that sets rlimits and runs the command. `also` names what only an rlimit bounds here.

    The command's environment is set last of all: a PATH or LD_PRELOAD in it is not for this shell.
    """
    bounds = spec.limits
    # A hog of the room dies before its keepers.
    words = ["ulimit -c 0", "echo 1000 >/proc/self/oom_score_adj", f"ulimit -f {bounds.disk >> 9}"]
    if command.cpu_s is not None:
        soft = max(1, math.ceil(command.cpu_s))
        words += [f"ulimit -S -t {soft}", f"ulimit -H -t {soft + 1}"]
    if "memory" in also:
        words.append(f"ulimit -v {bounds.memory >> 10}")
    if "processes" in also:
        words.append(f"ulimit -p {bounds.processes}")
    script = f"{{ {'; '.join(words)}; }} 2>/dev/null; {INNER}"
    variables = tuple(f"{name}={value}" for name, value in env.items())
    return ("/bin/sh", "-c", script, "sh", command.cwd, str(len(variables)), *variables, *command.argv)


# Control groups (root, or a delegated place)


@dataclass(frozen=True)
class Group:
    """A room's control groups: one folder under cgroup v2, one for each controller under v1, none where nothing can be
    bounded."""

    folders: tuple[Path, ...]

    def make(self, limits: Limits) -> None:
        """Raises `OSError` when the machine does not let us."""
        quota = int(limits.cpus * 100_000)
        values = {
            "memory.limit_in_bytes": str(limits.memory),
            "memory.memsw.limit_in_bytes": str(limits.memory),
            "memory.max": str(limits.memory),
            "memory.swap.max": "0",
            "pids.max": str(limits.processes + OVERHEAD),
            "cpu.cfs_quota_us": str(quota),
            "cpu.max": f"{quota} 100000",
            "cpu.shares": str(1024 * limits.weight),
            "cpu.weight": str(100 * limits.weight),
        }
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        for name, value in values.items():
            self._set(name, value)

    def join(self) -> tuple[str, ...]:
        """A prefix: the process enters the groups, then becomes what follows."""
        script = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
        return ("sh", "-c", script, "sh", *map(str, self.folders), "--") if self.folders else ()

    def pids(self) -> set[int]:
        """Everybody inside, also in groups made below."""
        found: set[int] = set()
        for top in self.folders:
            for listing in top.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found.update(map(int, listing.read_text().split()))
        return found

    def end(self, seconds: float = 10.0) -> None:
        """Kills everybody inside and removes the groups. A fork bomb is frozen first, where there is a freezer."""
        deadline = time.monotonic() + seconds
        while (pids := self.pids()) and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self._set("freezer.state", "FROZEN")
                self._set("cgroup.kill", "1")
            send(signal.SIGKILL, self.pids() | pids)
            with contextlib.suppress(OSError):
                self._set("freezer.state", "THAWED")
            time.sleep(0.002)
        for top in self.folders:  # a Docker engine that was told of them made others, one for each kind
            for folder in (top, *CGROUPS.glob(f"*/{ROOMS}/{top.name}")):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _set(self, name: str, value: str) -> None:
        for folder in self.folders:
            if (folder / name).exists():
                (folder / name).write_text(value)


CGROUPS: Final = Path("/sys/fs/cgroup")
ROOMS: Final = "orchestrator-rooms"  # the group above all others
OVERHEAD: Final = 24  # processes of ours beside a room's commands: bwrap, shells, clocks


@cache
def group_roots() -> tuple[Path, ...]:
    """Where groups for rooms may be made; empty when memory and processes cannot both be bounded."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    roots = tuple(CGROUPS / kind / ROOMS for kind in ([""] if unified else ["memory", "pids", "cpu", "freezer"]))
    with contextlib.suppress(OSError):
        for root in roots:
            root.mkdir(exist_ok=True)
            if unified:
                (CGROUPS / "cgroup.subtree_control").write_text("+memory +pids +cpu")
                (root / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        return roots if all(os.access(root, os.W_OK) for root in roots) else ()
    return ()
