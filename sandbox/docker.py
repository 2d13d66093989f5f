"""Rooms as containers: one for each room, its commands by `docker exec`.

Killing `docker exec` leaves its process running, and daemons live on in the container; so each command has a sweeper in
the room: docker's own init as a subreaper, and below it a shell as the container's root, whom the command, a user
without capabilities, cannot signal. Time, output and the process tree end there. The container's root holds the few
capabilities that takes (KILL, SETUID, SETGID, SETPCAP, DAC_OVERRIDE) and runs nothing else.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import docker
from anyio import to_thread
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import LogConfig, Ulimit
from docker.types import Mount as Bind

from sandbox import limits
from sandbox.home import key
from sandbox.hosted import BARE_ENV, FOREGROUND, HostedRoom, Place, record
from sandbox.jobs import KEEPER, exit_code
from sandbox.process import HOST_ENV, Process, Spawner, end_process, exited
from sandbox.results import KILLED, TIMED_OUT, result
from sandbox.room import (
    MIB,
    Command,
    EngineUnavailable,
    JobStatus,
    OnOutput,
    Result,
    Room,
    RoomDied,
    RoomError,
    RoomSpec,
    RootFs,
)
from sandbox.workspaces import Workspaces, shown

CALLS: Final = "/run/calls"
CAPABILITIES: Final = ["KILL", "SETUID", "SETGID", "SETPCAP", "DAC_OVERRIDE"]
API_S: Final = 60
ASK_S: Final = 5.0  # between looks at whether a job that is waited for still lives
IMPORT_S: Final = 900
GRACE_S: Final = 30.0  # beyond a command's own time, until the room is asked to end it and then the client is ended

MAIN: Final = f"{CALLS}/{FOREGROUND}main"  # the process id of the container's own command

# Ends everything below the subreaper (our parent) but us, and what escaped an earlier one to process 1. All are stopped
# before any is killed, or a fork bomb would outrun the count. Builtins only: it works when a room's processes are used
# up. A process that vanished while we looked may have left a child we did not see, so we look again. What forks and
# exits faster than it is found costs the room's user all its processes, jobs too: a signal to -1 misses nobody.
_SWEEP: Final = """
sweep() {
  read -r main <"@main@"
  finds=0
  while :; do
    tree=" $PPID 1 " victims= looks=0 again=1
    while [ "$again" ] && [ $looks -lt 20 ]; do
      again= new= looks=$((looks + 1))
      for stat in /proc/[0-9]*/stat; do
        read -r line <"$stat" || { again=1; continue; }
        pid=${line%% *}
        set -- ${line##*) }
        case $tree in *" $pid "*) continue;; *" $2 "*) ;; *) continue;; esac
        [ "$pid" != "$main" ] || continue
        tree="$tree$pid " again=1 new=1
        case $1 in Z|X) ;; *) [ "$pid" = $$ ] || { victims="$victims $pid"; kill -STOP "$pid"; };; esac
      done
      [ ! "$new" ] || finds=$((finds + 1))
    done
    [ "$victims" ] || return
    kill -KILL $victims
    [ $finds -lt 20 ] || setpriv --reuid "$uid" --clear-groups /bin/sh -c 'kill -KILL -1'
  done
} 2>/dev/null
""".replace("@main@", MAIN)
# $1: the call's folder, $2: the room's user; the rest: the command. Writes the command's own end, as bwrap would, only
# when it had one.
SWEEPER: Final = (
    _SWEEP
    + """
d=$1 uid=$2; shift 2
read -r line </proc/$$/stat && echo "$line" >"$d/sweeper"
trap 'sweep; exit 124' USR1; trap 'sweep; exit 137' TERM
exec 7<&0
"$@" <&7 7<&- 8>&- &
wait $!; code=$?
sweep
echo "{\\"exit-code\\": $code}" >"$d/status"
exit $code
"""
)
# $1: the call's folder, $2: bytes of each stream, $3: seconds; the rest: the sweeper and its command.
CALL: Final = """
d=$1 n=$2 t=$3; shift 3
cap() { stdbuf -o0 head -c "$n"; exec cat >/dev/null; }
exec 4>&1 5>&2
{ { timeout -s USR1 -k 10 "$t" "$@" 2>&3 3>&- 4>&- 5>&-; echo $? >"$d/code"; } | cap >&4; } 3>&1 | cap >&5
mv "$d/code" "$d/rc"
"""
# The same for a job's keeper: its timeout must be one that the sweeper can tell from a kill.
JOB: Final = KEEPER.replace("timeout -k", "timeout -s USR1 -k")
# Each argument: a call's folder. Prints how long those that live have run, and ends them when $1 is a signal.
ASK: Final = """
act=$1; shift
for d; do
  read -r then <"$d/sweeper" || continue
  pid=${then%% *}
  read -r now <"/proc/$pid/stat" || continue
  set -- ${then##*) }; began=${20}
  set -- ${now##*) }
  [ "$began" = "${20}" ] && [ "$1" != Z ] || continue
  read -r up _ </proc/uptime
  echo "$began $up"
  [ "$act" = ask ] || kill "-$act" "$pid"
done 2>/dev/null
exit 0
"""


class DockerRoom(HostedRoom):
    """One container. Its calls keep records in a folder that only root reaches, the host's and the container's."""

    boxed = True

    def __init__(self, spec: RoomSpec, place: Place, spawner: Spawner, container: str, client: _Client) -> None:
        super().__init__(spec, place, spawner)
        self._container = container
        self._client = client

    async def run(self, command: Command, on_output: OnOutput | None = None) -> Result:
        self._alive()
        call = FOREGROUND + secrets.token_hex(8)
        folder = self._place.folder / "jobs" / call
        folder.mkdir(mode=0o700)
        try:
            done = await self._spawner.run(
                self._exec("-i", "sh", "-c", CALL, "sh", *self._call(call, command)),
                end=partial(self._end, call),
                stdin=command.stdin,
                limit=command.output_limit + 1,
                time_s=command.time_s + GRACE_S,
                on_output=on_output,
            )
            code, rc = exit_code(_bytes(folder / "status")), _bytes(folder / "rc").strip()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not rc and not done.timed_out:
            for _ in range(20):  # a container that dies ends its commands before the engine says that it is dead
                await self._up()
                await anyio.sleep(0.1)
            raise RoomError(f"room {self._spec.name}: {done.stderr.decode(errors='replace').strip()}")
        return result(
            command,
            KILLED if code is None else code,
            done.stdout[: command.output_limit],
            done.stderr[: command.output_limit],
            done.seconds,
            timed_out=done.timed_out or (code is None and rc == str(TIMED_OUT).encode()),
            over=max(len(done.stdout), len(done.stderr)) > command.output_limit,
        )

    async def start(self, job: str, command: Command) -> None:
        await self._up()
        record = self._job(job)
        if not record.claim():
            return
        await record.prepare(command)
        argv = self._exec("-d", "sh", "-c", JOB, "sh", *self._call(job, command))
        done = await self._spawner.run(argv, time_s=API_S)
        if done.code != 0:
            await self._up()
            raise RoomError(f"room {self._spec.name}: {done.stderr.decode(errors='replace').strip()}")
        await record.started()

    async def job(self, job: str, wait_s: float = 0.0) -> JobStatus:
        await self._up()
        record = self._known(job)
        age = await self._age(job)
        with anyio.move_on_after(wait_s):
            while age is not None and not record.ended():
                await record.over(ASK_S)
                age = await self._age(job)
        await self._up()
        return await to_thread.run_sync(partial(record.status, age, boxed=True))

    async def kill(self, job: str) -> None:
        await self._up()
        record = self._known(job)
        if not record.ended():
            (record.folder / "killed").touch()
            await self._ask("TERM", job)
            await record.over(GRACE_S)

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            self._place.condemn()
            await to_thread.run_sync(self._client.remove, self._container)
            await to_thread.run_sync(self._place.remove)

    async def _end(self, call: str, process: Process) -> None:
        """Ends a call in the room, then the client that waits for it."""
        with anyio.move_on_after(GRACE_S):
            while process.poll() is None:  # again, because its sweeper may not have begun
                await self._ask("TERM", call)
                with anyio.move_on_after(1.0):
                    await exited(process)
        await end_process(process)

    async def _ask(self, act: str, call: str) -> str:
        argv = self._exec("sh", "-c", ASK, "sh", act, f"{CALLS}/{call}")
        return (await self._spawner.run(argv, time_s=API_S)).stdout.decode()

    async def _age(self, job: str) -> float | None:
        """For how many seconds the job has run; None when its sweeper is gone."""
        words = (await self._ask("ask", job)).split()
        return float(words[1]) - int(words[0]) / os.sysconf("SC_CLK_TCK") if words else None

    def _exec(self, *words: str) -> tuple[str, ...]:
        options = [word for word in words[:1] if word.startswith("-")]
        return (*self._client.cli, "exec", *options, self._container, *words[len(options) :])

    def _call(self, call: str, command: Command) -> tuple[str, ...]:
        env = BARE_ENV | dict(self._spec.env) | dict(command.env)
        bounds = limits.inner(
            self._spec.limits, command, env, memory=False, processes=False, disk=not limits.has_disks()
        )
        uid = limits.room_uid(self._spec)
        user = (*limits.setpriv(uid), "env", "-i")
        folder = f"{CALLS}/{call}"
        sweeper = ("/sbin/docker-init", "-s", "--", "sh", "-c", SWEEPER, "sh", folder, str(uid))
        size = (folder, str(command.output_limit + 1), f"{command.time_s}")
        return (*size, *sweeper, *user, *bounds)

    async def _up(self) -> None:
        self._alive()
        if not await to_thread.run_sync(self._client.running, self._container):
            raise RoomDied(f"room {self._spec.name}: its container is gone")


class _Client:
    """The engine's API, called from worker threads, and the command line that reaches the same engine."""

    def __init__(self) -> None:
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self.cli = ("docker", "-H", host)
        try:
            self.api = docker.DockerClient(base_url=host, timeout=API_S, max_pool_size=64)
        except DockerException as error:
            raise EngineUnavailable(f"no Docker engine answers at {host}: {error}") from error
        self._host = host

    def running(self, name: str) -> bool:
        try:
            return bool(self.api.containers.get(name).status == "running")
        except NotFound:
            return False

    def remove(self, name: str) -> None:
        try:
            self.api.containers.get(name).remove(force=True, v=True)
        except NotFound:
            return

    def image(self, root: RootFs) -> str:
        """The image of a root file system, imported once."""
        tag = root.digest.removeprefix("sha256:")
        try:
            self.api.images.get(f"orchestrator-room:{tag}")
        except ImageNotFound:
            slow = docker.APIClient(base_url=self._host, timeout=IMPORT_S)
            slow.import_image_from_file(str(root.tar), repository="orchestrator-room", tag=tag)
            slow.close()
        return f"orchestrator-room:{tag}"


class DockerEngine:
    """Makes rooms with a Docker engine on this machine."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._rooms = home / "docker"
        self._workspaces = Workspaces(home)
        self._spawner = Spawner()
        self._client = _Client()
        self._import = anyio.Lock()

    @property
    def name(self) -> str:
        return "docker"

    def check(self) -> None:
        """Raises `EngineUnavailable` when no engine answers."""
        if shutil.which("docker", path=HOST_ENV["PATH"]) is None:
            raise EngineUnavailable("the command `docker` is not installed; install docker.io or docker-cli")
        try:
            self._client.api.ping()
        except (DockerException, OSError) as error:
            raise EngineUnavailable(f"no Docker engine answers: {error}") from error

    async def open(self, spec: RoomSpec) -> Room:
        if spec.root is None:
            raise ValueError(f"room {spec.name}: docker needs a root file system")
        async with self._import:
            image = await to_thread.run_sync(self._client.image, spec.root)
        return await to_thread.run_sync(self._open, spec, image)

    async def sweep(self, run: str, epoch: int, keep: frozenset[str] = frozenset()) -> int:
        return await to_thread.run_sync(self._sweep, run, epoch, keep)

    async def discard(self, workspace: Path) -> None:
        await to_thread.run_sync(self._workspaces.discard, workspace)

    def gaps(self) -> tuple[str, ...]:
        found = ["memfd_create stays allowed: a room without executable scratch can still run code from memory"]
        if not limits.has_disks():
            found.append("disk space and inodes of a workspace are not bounded, only the size of each file")
        if not limits.can_mount():
            found.append("what a room writes into its workspace can be executed, whatever its specification says")
        return tuple(found)

    def _container(self, run: str, room: str) -> str:
        return f"{key(str(self._home)).rsplit('.', 1)[1]}.{run}.{room}"

    def _open(self, spec: RoomSpec, image: str) -> DockerRoom:
        run, room = key(spec.labels.run), key(spec.name)
        place, name = Place.of(self._rooms, run, room, grouped=False), self._container(run, room)
        try:
            place.claim(spec)
            binds = self._binds(spec, place.folder)
            if not self._client.running(name):
                self._client.remove(name)
                create = self._client.api.containers.create
                main = ["sh", "-c", f'echo $$ >"{MAIN}"; exec sleep infinity']
                create(image, main, name=name, mounts=binds, **_options(spec)).start()
        except (DockerException, OSError) as error:
            raise RoomError(f"room {spec.name} cannot be opened: {error}") from error
        return DockerRoom(spec, place, self._spawner, name, self._client)

    def _binds(self, spec: RoomSpec, folder: Path) -> list[Bind]:
        binds = [Bind(CALLS, str(folder / "jobs"), type="bind")]
        for number, one in enumerate(self._workspaces.prepare(spec, limits.room_uid(spec))):
            noexec = one.writable and not spec.scratch_exec
            source = shown(one.source, folder / f"m{number}", noexec=noexec, walk=False)
            binds.append(Bind(one.target, str(source), type="bind", read_only=not one.writable))
        return binds

    def _sweep(self, run: str, epoch: int, keep: frozenset[str]) -> int:
        in_use, gone = set(), set()
        found: Sequence[Container] = self._client.api.containers.list(all=True, filters={"label": _label(run)})
        containers = {one.name: one for one in found}
        rooms = {folder.name: folder for folder in (self._rooms / key(run)).glob("*")}
        prefix = self._container(key(run), "")
        for room in {*rooms, *(str(name).removeprefix(prefix) for name in containers if str(name).startswith(prefix))}:
            place = Place.of(self._rooms, key(run), room, grouped=False)
            mine = record(place.folder / "room.json")
            container = containers.get(prefix + room)
            if mine and (mine["epoch"] >= epoch or mine["name"] in keep):
                in_use.add(str(mine["workspace"]))
                if container and mine["epoch"] < epoch:
                    self._end_foreground(container)
                continue
            place.condemn()
            if container:
                container.remove(force=True, v=True)
            place.remove()
            gone.add(room)
        self._workspaces.sweep(run, epoch, in_use, keep)
        return len(gone)

    @staticmethod
    def _end_foreground(container: Container) -> None:
        if container.status == "running":
            script = f'set -- TERM "{CALLS}/{FOREGROUND}"*; {ASK}'
            container.exec_run(["sh", "-c", script])


def _label(run: str) -> str:
    return f"orchestrator.run={run}"


def _options(spec: RoomSpec) -> dict[str, Any]:
    """Everything that holds a container in."""
    labels, bounds = spec.labels, spec.limits
    executable = "exec" if spec.scratch_exec else "noexec"
    tmp = f"size={limits.tmp_bytes(bounds)},nr_inodes={bounds.inodes},mode=1777,nosuid,nodev,{executable}"
    name, _, value = _label(labels.run).partition("=")
    return {
        "labels": {name: value, "orchestrator.seat": labels.seat, "orchestrator.session": labels.session},
        "init": True,
        "user": "0:0",
        "hostname": "room",
        "network_mode": "none",
        "ipc_mode": "private",
        "read_only": True,
        "tmpfs": {"/tmp": tmp},
        "shm_size": 64 * MIB,
        "cap_drop": ["ALL"],
        "cap_add": CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "pids_limit": bounds.processes + limits.OVERHEAD,
        "mem_limit": bounds.memory,
        "memswap_limit": bounds.memory,
        "nano_cpus": int(bounds.cpus * 1e9),
        "ulimits": [Ulimit(name="core", soft=0, hard=0)],
        "log_config": LogConfig(type="none"),
    }


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
