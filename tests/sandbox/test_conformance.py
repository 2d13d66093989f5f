"""What every engine's rooms promise. Where an engine cannot hold a bound here, it must have said so in `gaps()`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from sandbox import limits, mounts
from sandbox.hosted import key
from sandbox.room import (
    KIB,
    MIB,
    Command,
    Ended,
    Engine,
    Labels,
    Mount,
    Result,
    Room,
    RoomDied,
    RoomFileError,
    RoomSpec,
)
from tests.sandbox.conftest import RUN, SMALL, the_engine

pytestmark = pytest.mark.anyio

# A daemon in a session of its own, orphaned twice over, that shows it lives by writing to `beat`.
DAEMON = """
(setsid sh -c 'while :; do echo $$ >>beat; sleep 0.02; done' >/dev/null 2>&1 &)
until [ -s beat ]; do sleep 0.01; done
"""


def sh(script: str, **changes: object) -> Command:
    return replace(Command(("sh", "-c", script)), **changes)  # type: ignore[arg-type]  # fields by name


async def text(room: Room, script: str, **changes: object) -> str:
    done = await room.run(sh(script, **changes))
    assert done.ended is Ended.EXITED, done
    return done.stdout.decode()


async def assert_no_beat(room: Room) -> None:
    """The daemon of `DAEMON` is gone: its file grows no more. Tried for a while, so that a living one is caught."""
    sizes = (await text(room, "wc -c <beat; sleep 0.3; wc -c <beat; rm beat")).split()
    assert sizes[0] == sizes[1], "a process outlived its command"


def declares(engine: Engine, words: str) -> bool:
    return any(words in gap for gap in engine.gaps())


# Commands


async def test_a_result_has_the_commands_output_and_exit_code(room: Room) -> None:
    done = await room.run(sh("echo out; echo err >&2; exit 7"))
    assert (done.exit_code, done.stdout, done.stderr, done.ended) == (7, b"out\n", b"err\n", Ended.EXITED)
    assert not done.ok


async def test_an_unknown_program_and_a_missing_folder_are_the_commands_failure(room: Room) -> None:
    unknown = await room.run(Command(("no-such-program",)))
    assert unknown.exit_code == 127
    assert b"no-such-program" in unknown.stderr
    lost = await room.run(sh("true", cwd="/no/such/folder"))
    assert lost.exit_code == 126
    assert b"/no/such/folder" in lost.stderr


async def test_arguments_reach_the_command_untouched(room: Room) -> None:
    words = ("", "two words", "$HOME", "'\"\\", "new\nline", "-n", "*", "é")
    done = await room.run(Command(("printf", "%s|", *words)))
    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


async def test_signals_are_reported_as_a_shell_does(room: Room) -> None:
    crash = await room.run(sh("kill -SEGV $$"))
    assert (crash.exit_code, crash.ended, crash.stderr) == (139, Ended.EXITED, b"")
    killed = await room.run(sh("kill -KILL $$"))
    assert (killed.exit_code, killed.ended) == (137, Ended.KILLED)


async def test_stdin_is_fed_from_bytes_and_from_a_stream(room: Room) -> None:
    data = os.urandom(300 * KIB)
    assert (await room.run(Command(("cat",), stdin=data))).stdout == data

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    assert (await room.run(Command(("cat",), stdin=stream()))).stdout == data
    assert (await room.run(Command(("cat",)))).stdout == b""


async def test_a_command_need_not_read_its_input(room: Room) -> None:
    assert (await room.run(Command(("true",), stdin=bytes(4 * MIB)))).ok


async def test_the_environment_is_bare(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY_OF_THE_ORCHESTRATOR", "secret")
    names = {line.split("=")[0] for line in (await text(room, "env")).splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "TMPDIR", "WORKSPACE"}
    assert await text(room, "echo $ONE $HOME", env={"ONE": "1", "HOME": "/else"}) == "1 /else\n"


@contextmanager
def an_inheritable_file() -> Iterator[None]:
    with Path("/etc/shadow" if os.geteuid() == 0 else "/etc/passwd").open() as file:
        os.set_inheritable(file.fileno(), True)
        yield


async def test_no_descriptor_is_inherited(room: Room) -> None:
    with an_inheritable_file():
        links = await text(room, "for fd in /proc/self/fd/*; do readlink $fd; done; true")
    assert {name.split(":")[0] for name in links.split()} <= {"/dev/null", "pipe", "/proc/self/fd"}


async def test_a_command_starts_in_its_folder(room: Room) -> None:
    await room.run(sh("mkdir -p deep/er"))
    assert (await text(room, "pwd", cwd="/workspace/deep/er")).endswith("/deep/er\n")
    assert await text(room, "pwd", cwd="/") == "/\n"


async def test_a_command_is_no_root_and_can_not_become_it(room: Room, engine: Engine) -> None:
    status = dict(
        line.split(":\t") for line in (await text(room, "cat /proc/self/status")).splitlines() if ":\t" in line
    )
    if engine.name == "local" and os.geteuid() != 0:
        assert declares(engine, "run as the orchestrator's user")
        return
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert await text(room, "id -u") != "0\n"


# Ends


async def test_the_wall_limit_ends_the_whole_tree(room: Room) -> None:
    done = await room.run(sh(DAEMON + "trap '' TERM; echo on; while :; do sleep 1; done", time_s=2))
    assert (done.ended, done.stdout) == (Ended.TIMEOUT, b"on\n")
    await assert_no_beat(room)


async def test_a_daemon_ends_with_its_command(room: Room) -> None:
    assert (await room.run(sh(DAEMON))).ok
    await assert_no_beat(room)


async def test_cancelling_ends_the_whole_tree(room: Room) -> None:
    async with anyio.create_task_group() as tasks:

        async def heard(chunk: bytes) -> None:
            tasks.cancel_scope.cancel()

        tasks.start_soon(room.run, sh(DAEMON + "echo on; sleep 60"), heard)
    await assert_no_beat(room)


async def test_what_on_output_raises_reaches_the_caller_and_ends_the_command(room: Room) -> None:
    async def refuse(chunk: bytes) -> None:
        raise LookupError(chunk.decode())

    with pytest.raises(LookupError, match="on"):
        await room.run(sh(DAEMON + "echo on; sleep 60"), refuse)
    await assert_no_beat(room)


async def test_the_cpu_limit_is_a_timeout(room: Room) -> None:
    done = await room.run(sh("while :; do :; done", cpu_s=1, time_s=60))
    assert done.ended is Ended.TIMEOUT
    stubborn = await room.run(sh("trap '' XCPU; while :; do :; done", cpu_s=1, time_s=60))
    assert stubborn.ended is Ended.TIMEOUT


async def test_orphans_are_reaped_while_the_command_runs(room: Room, spec: RoomSpec) -> None:
    orphans = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' & exec true) & done; sleep 0.5; "
    count = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c '^[0-9]* (sh) Z' || true"
    if spec.root is not None:
        assert await text(room, orphans + "wait; " + count) == "0\n"


async def test_two_commands_at_once_do_not_disturb_each_other(room: Room) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.run, sh("sleep 0.1"))
        tasks.start_soon(room.run, sh("setsid sleep 0.05 & exit 3"))
        assert await text(room, "(sleep 0.3; echo from a child) & wait") == "from a child\n"


# Output


async def test_output_over_the_limit_is_dropped_and_said(room: Room) -> None:
    done = await room.run(sh("head -c 300000 /dev/zero; echo fine >&2; exit 3", output_limit=1000))
    assert (done.stdout, done.stderr) == (bytes(1000), b"fine\n")
    assert (done.exit_code, done.ended) == (3, Ended.OUTPUT)


async def test_an_endless_flood_ends_at_the_wall_limit_with_little_kept(room: Room) -> None:
    done = await room.run(Command(("yes",), time_s=1, output_limit=1000))
    assert (done.ended, len(done.stdout)) == (Ended.TIMEOUT, 1000)


async def test_output_is_heard_while_the_command_runs(room: Room) -> None:
    heard = []

    async def go_on(chunk: bytes) -> None:
        heard.append(chunk)
        if heard == [b"first\n"]:
            await room.write("go", b"")

    done = await room.run(sh("echo first; until [ -e go ]; do sleep 0.02; done; rm go; echo second"), go_on)
    assert done.ok
    assert b"".join(heard) == done.stdout == b"first\nsecond\n"


# Jobs


async def test_a_job_runs_once_and_keeps_its_result(room: Room) -> None:
    command = sh("echo once >>count; read word; echo got $word; echo err >&2; exit 5", stdin=b"x\n")
    await room.start("once", command)
    await room.start("once", command)
    status = await room.job("once", wait_s=30)
    assert status.result == Result(5, b"got x\n", b"err\n", status.seconds, Ended.EXITED)
    await room.start("once", command)
    assert await text(room, "cat count; rm count") == "once\n"


async def test_a_running_job_shows_its_newest_output(room: Room) -> None:
    await room.start("shown", sh("echo begun; until [ -e end ]; do sleep 0.02; done; rm end"))
    with anyio.fail_after(30):
        status = await room.job("shown")
        while not status.tail:
            await anyio.sleep(0.02)
            status = await room.job("shown")
    assert (status.result, status.tail) == (None, b"begun\n")
    await room.write("end", b"")
    done = (await room.job("shown", wait_s=30)).result
    assert done is not None
    assert done.ok


async def test_ids_of_jobs_are_checked(room: Room) -> None:
    with pytest.raises(KeyError):
        await room.job("never-started")
    with pytest.raises(KeyError):
        await room.kill("never-started")
    for wrong in ("", "../up", ".hidden", "a/b", "a b", "!x"):
        with pytest.raises(ValueError, match="id"):
            await room.start(wrong, sh("true"))


async def test_a_killed_job_is_gone_with_all_its_processes(room: Room) -> None:
    await room.start("daemonic", sh(DAEMON + "trap '' TERM; sleep 60"))
    await room.start("daemonic-2", sh("sleep 60"))
    await room.run(sh("until [ -s beat ]; do sleep 0.02; done"))
    await room.kill("daemonic")
    done = (await room.job("daemonic", wait_s=30)).result
    assert done is not None
    assert done.ended is Ended.KILLED
    await assert_no_beat(room)
    await room.kill("daemonic")
    assert (await room.job("daemonic-2")).result is None, "a job whose name begins so is another job"
    await room.kill("daemonic-2")


async def test_a_job_is_held_by_its_limits(room: Room) -> None:
    await room.start("busy", sh("while :; do :; done", cpu_s=1, time_s=60))
    busy = (await room.job("busy", wait_s=60)).result
    assert busy is not None
    assert busy.ended is Ended.TIMEOUT
    await room.start("flood", sh(DAEMON + "exec yes", time_s=1, output_limit=1000))
    done = (await room.job("flood", wait_s=60)).result
    assert done is not None
    assert (done.ended, len(done.stdout)) == (Ended.TIMEOUT, 1000)
    await assert_no_beat(room)


async def test_a_commands_end_leaves_a_job_alone(room: Room) -> None:
    await room.start("long", sh("(sleep 0.6; echo child) & wait; echo end"))
    await room.run(sh("setsid sleep 5 & true"))
    done = (await room.job("long", wait_s=30)).result
    assert done is not None
    assert done.stdout == b"child\nend\n"


# An orchestrator that dies

ORCHESTRATOR = """
import pickle, sys, anyio
from pathlib import Path
from sandbox.engines import choose
from sandbox.room import Command

async def main():
    name, home, spec = sys.argv[1], Path(sys.argv[2]), pickle.loads(bytes.fromhex(sys.argv[3]))
    room = await choose(name, home).open(spec)
    await room.start("build", Command(("sh", "-c", "until [ -e go ]; do sleep 0.05; done; echo built; exit 7")))
    await room.start("lost", Command(("sh", "-c", "echo started; while :; do echo >>lost; sleep 0.1; done")))
    async def heard(chunk):
        print("running", flush=True)
    await room.run(Command(("sh", "-c", sys.argv[4])), heard)

anyio.run(main)
"""


async def test_jobs_survive_the_orchestrators_death_and_commands_do_not(
    engine: Engine, spec: RoomSpec, place: Path
) -> None:
    """SIGKILL of the process, then a sweep of the next epoch that keeps the room, then adoption."""
    workspace = place / "workspaces" / f"outliving-{engine.name}"
    spec = replace(spec, name="outliving", labels=Labels(RUN + "-outliving", 1, "agent-01"), workspace=workspace)
    script = DAEMON + "echo on; sleep 60"
    argv = [sys.executable, "-c", ORCHESTRATOR, engine.name, str(place / "home"), _pickled(spec), script]
    async with await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=None) as orchestrator:
        assert orchestrator.stdout is not None
        assert (await orchestrator.stdout.receive()).startswith(b"running")
        orchestrator.send_signal(signal.SIGKILL)

    again = the_engine(engine.name, place)
    assert await again.sweep(spec.labels.run, 2, frozenset({"outliving"})) == 0
    room = await again.open(replace(spec, labels=replace(spec.labels, epoch=2)))
    await assert_no_beat(room)
    assert (await room.job("build")).result is None
    await room.write("go", b"")
    done = (await room.job("build", wait_s=30)).result
    assert done is not None
    assert (done.exit_code, done.stdout, done.ended) == (7, b"built\n", Ended.EXITED)

    await anyio.to_thread.run_sync(_lose_everything, engine, place, spec)
    room = await again.open(replace(spec, labels=replace(spec.labels, epoch=3)))
    lost = await room.job("lost", wait_s=30)
    assert lost.result is not None
    assert (lost.result.ended, lost.tail) == (Ended.INTERRUPTED, b"started\n")
    with anyio.fail_after(60):  # a job does not outlive its keeper either
        while len(set((await text(room, "wc -c <lost; sleep 1; wc -c <lost")).split())) > 1:
            pass
    await room.stop()
    await again.discard(workspace)


def _pickled(spec: RoomSpec) -> str:
    import pickle

    return pickle.dumps(replace(spec, env=dict(spec.env))).hex()


def _kill_container(run: str, *how: str) -> None:
    found: list[str] = []
    while not found:  # its first output may come before the engine lists it as running
        names = subprocess.run(["docker", "ps", "--format", "{{.Names}}"], capture_output=True, check=True, text=True)
        found = [name for name in names.stdout.split() if key(run) in name]
    (name,) = found
    subprocess.run(["docker", *how, name], capture_output=True, check=True)


def _lose_everything(engine: Engine, place: Path, spec: RoomSpec) -> None:
    """What a reboot does to a room: its jobs' keepers are gone, and their processes with them."""
    run, room = key(spec.labels.run), key(spec.name)
    kind = "rooms" if engine.name == "bubblewrap" else engine.name
    keeper = int((place / "home" / kind / run / room / "jobs/lost/pid").read_text().split()[0])
    os.killpg(keeper, signal.SIGKILL)


async def test_a_sweep_removes_a_dead_epoch_and_touches_no_other_run(
    engine: Engine, spec: RoomSpec, place: Path
) -> None:
    workspace, run = place / "workspaces" / f"dead-{engine.name}", RUN + "-dead"
    mine = replace(spec, name="dead", labels=Labels(run, 1, "agent-01"), workspace=workspace)
    other = replace(spec, name="dead", labels=Labels(RUN + "-other", 1, "agent-01"), workspace=None)
    dead, alive = await engine.open(mine), await engine.open(other)
    async with anyio.create_task_group() as tasks:
        await dead.start("job", sh("sleep 60"))

        async def foreground() -> None:
            with pytest.raises(RoomDied):
                await dead.run(sh("echo on; sleep 60"), sweep)

        async def sweep(chunk: bytes) -> None:
            tasks.start_soon(engine.sweep, run, 2, frozenset({"other"}))

        tasks.start_soon(foreground)
    for verb in (
        dead.run(sh("true")),
        dead.start("late", sh("true")),
        dead.job("job"),
        dead.kill("job"),
        dead.read("x"),
    ):
        with pytest.raises(RoomDied):
            await verb
    assert await engine.sweep(run, 2) == 0
    assert await text(alive, "echo here", cwd="/tmp") == "here\n"
    await alive.stop()
    assert not [path for kind in ("rooms", "docker", "local") for path in (place / "home" / kind / key(run)).glob("*")]
    assert not mounts.below(workspace)
    assert not [path for root in limits.group_roots() for path in root.glob(f"*.{key(run)}.{key('dead')}*")]
    await dead.stop()
    await engine.discard(workspace)


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
async def test_a_container_that_somebody_removes_is_a_dead_room(engine: Engine, spec: RoomSpec) -> None:
    labels = Labels(RUN + "-removed", 1, "agent-01")
    room = await engine.open(replace(spec, name="removed", labels=labels, workspace=None))

    async def remove(chunk: bytes) -> None:
        await anyio.to_thread.run_sync(_kill_container, labels.run, "rm", "-f")

    with pytest.raises(RoomDied):
        await room.run(sh("echo on; sleep 60", cwd="/tmp"), remove)
    with pytest.raises(RoomDied):
        await room.start("late", sh("true"))
    await room.stop()


async def test_a_workspace_outlives_its_room_and_can_be_looked_at_by_another(
    engine: Engine, spec: RoomSpec, place: Path
) -> None:
    workspace = place / "workspaces" / f"kept-{engine.name}"
    first = await engine.open(replace(spec, name="first", workspace=workspace))
    await first.write("kept", b"here")
    await first.stop()
    await first.stop()
    reader = await engine.open(replace(spec, name="reader", workspace=None, mounts=(Mount(workspace, "/sources"),)))
    assert await reader.read("/sources/kept") == b"here"
    await reader.stop()
    second = await engine.open(replace(spec, name="second", workspace=workspace))
    assert await second.read("kept") == b"here"
    await second.stop()
    await engine.discard(workspace)
    assert not workspace.exists()
    assert not mounts.image_of(workspace).exists()


async def test_a_cases_room_is_a_room(engine: Engine, spec: RoomSpec, place: Path) -> None:
    out = place / "workspaces" / f"case-{engine.name}"
    case = replace(spec, name="case", workspace=out, brief=True, mounts=(Mount(place / "readable", "/cases"),))
    room = await engine.open(case)
    note = "cat /cases/note; echo made >product" if spec.root else "echo read me; echo made >product"
    assert (await text(room, note)).startswith("read me")
    assert (await room.run(sh("sleep 60", time_s=0.5))).ended is Ended.TIMEOUT
    await room.stop()
    step = await engine.open(replace(case, name="step", workspace=None, mounts=(Mount(out, "/workspace"),)))
    assert await step.read("product") == b"made\n"
    await step.stop()
    await engine.discard(out)


# Files


async def test_files_go_in_and_out(room: Room) -> None:
    data = os.urandom(200_000)
    await room.write("made/for/it.bin", data)
    assert await room.read("made/for/it.bin") == data
    assert await room.read("/workspace/made/for/it.bin", limit=len(data)) == data
    with pytest.raises(RoomFileError, match="larger"):
        await room.read("made/for/it.bin", limit=len(data) - 1)
    await room.run(sh("mkfifo made/fifo; ln -s nowhere made/link"))
    for path in ("made", "no/such", "made/fifo", "made/link"):
        with pytest.raises(RoomFileError):
            await room.read(path)
    for path in ("made", "made/fifo", "made/for/it.bin/below"):
        with pytest.raises(RoomFileError):
            await room.write(path, b"x")
    await room.run(sh("rm -rf made"))


# Limits

FORKS = r"""
import os, time
count = 0
try:
    while count < 2000:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        count += 1
except OSError:
    pass
print(count, flush=True)
"""


async def test_a_memory_hog_is_stopped_and_the_room_lives(room: Room) -> None:
    done = await room.run(Command(("python3", "-c", "x = bytearray(400 * 2**20); print(len(x))"), time_s=60))
    assert not done.ok
    assert done.stdout == b""
    assert await text(room, "echo alive") == "alive\n"


async def test_memory_is_bounded_for_the_room_as_a_whole(room: Room, engine: Engine) -> None:
    if declares(engine, "memory is bounded for each process"):
        return
    hog = "python3 -c 'x = bytearray(100 * 2**20); import time; time.sleep(1); print(1)'"
    hogs = f"for i in 1 2 3 4; do {hog} & done; wait"
    assert len((await room.run(sh(hogs, time_s=60))).stdout.split()) < 4


async def test_a_fork_bomb_is_contained_and_ends(room: Room, engine: Engine) -> None:
    if declares(engine, "number of processes is not bounded"):
        return
    done = await room.run(Command(("python3", "-c", FORKS), time_s=60))
    assert int(done.stdout) <= SMALL.processes + limits.OVERHEAD
    assert await text(room, "echo alive") == "alive\n"


@pytest.mark.parametrize("folder", ["/workspace", "/tmp"])
async def test_disks_and_inodes_are_bounded(room: Room, engine: Engine, folder: str) -> None:
    if declares(engine, "disk space and inodes"):
        return
    filler = "mkdir f; head -c 400m /dev/zero >f/zeros; wc -c <f/zeros; rm f/zeros"
    assert int(await text(room, filler, cwd=folder)) <= SMALL.disk
    many = "cd f; i=0; while [ $i -lt 6000 ] && true >$i; do i=$((i+1)); done 2>/dev/null; ls | wc -l; cd ..; rm -rf f"
    assert int(await text(room, many, cwd=folder)) <= SMALL.inodes + 200


async def test_a_single_file_is_bounded_everywhere(room: Room) -> None:
    done = await room.run(sh("head -c 100m /dev/zero >big; wc -c <big; rm big"))
    assert int(done.stdout) <= SMALL.disk


# Walls


async def test_no_network_not_even_the_hosts_own(room: Room, engine: Engine) -> None:
    """A host's service on loopback and one on an abstract unix socket: both answer here, neither in the room."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        name = f"rooms-{os.getpid()}-{engine.name}"
        unix.bind("\0" + name)
        unix.listen()
        probe = (
            "use Socket; socket(T, PF_INET, SOCK_STREAM, 0); "
            f"$there = sockaddr_in({tcp.getsockname()[1]}, inet_aton('127.0.0.1')); "
            "print connect(T, $there) ? 1 : 0; "
            f'socket(U, PF_UNIX, SOCK_STREAM, 0); print connect(U, sockaddr_un("\\0{name}")) ? 1 : 0; '
        )
        here = await anyio.run_process(["perl", "-e", probe])
        assert here.stdout == b"11", "the probe itself must work"
        done = await room.run(Command(("perl", "-e", probe)))
    assert done.stdout == (b"11" if declares(engine, "reach every network") else b"00")


async def test_the_root_and_read_only_mounts_can_not_be_written(engine: Engine, spec: RoomSpec, place: Path) -> None:
    mounts = (Mount(place / "readable", "/sources"),)
    room = await engine.open(replace(spec, name="walls", workspace=None, mounts=mounts))
    places = "/x /etc/x /usr/bin/x /var/tmp/x /sources/x /sources/note"
    tries = f"for f in {places}; do (echo x >>$f) 2>/dev/null && echo $f; done; true"
    written = (await text(room, tries, cwd="/tmp")).split()
    await room.stop()
    if not declares(engine, "a room's root is the host's own"):
        assert not written
        assert (place / "readable/note").read_text() == "read me"


async def test_nothing_writable_is_executable_where_that_is_asked(engine: Engine, spec: RoomSpec, place: Path) -> None:
    if declares(engine, "whatever its specification says"):
        return
    out = place / "workspaces" / f"noexec-{engine.name}"
    room = await engine.open(replace(spec, name="noexec", workspace=out, scratch_exec=False, brief=True))
    tries = "for d in /workspace /tmp /dev/shm /dev; do cp /bin/true $d/t 2>/dev/null && $d/t && echo $d; done; "
    assert await text(room, tries + "/lib64/ld-linux-x86-64.so.2 /tmp/t && echo ld; true") == ""
    memfd = await room.run(Command(("perl", "-e", 'my $name = "x"; print syscall(319, $name, 0)')))
    assert memfd.stdout == b"-1" or declares(engine, "memfd_create stays allowed")
    trace = await room.run(Command(("perl", "-e", "print syscall(101, 16, getppid, 0, 0), ' ', $! + 0")))
    assert trace.stdout == b"-1 38" or engine.name == "docker"
    await room.stop()
    await engine.discard(out)


# Both event loops


def test_rooms_work_on_trio(engine: Engine, spec: RoomSpec, place: Path) -> None:
    async def scenario() -> None:
        room = await the_engine(engine.name, place).open(replace(spec, name="trio", workspace=None))
        assert (await room.run(Command(("cat",), stdin=b"x", cwd="/tmp"))).stdout == b"x"
        assert (await room.run(Command(("sleep", "60"), time_s=0.5, cwd="/tmp"))).ended is Ended.TIMEOUT
        await room.start("job", Command(("true",), cwd="/tmp"))
        done = (await room.job("job", wait_s=30)).result
        assert done is not None
        assert done.ok
        await room.stop()

    anyio.run(scenario, backend="trio")
