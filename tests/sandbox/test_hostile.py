"""Attacks from inside a room: on the orchestrator, the host, other rooms and the room's own keepers (P5)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from sandbox.mounts import can_mount
from sandbox.room import Command, Ended, Engine, Mount, Room, RoomFileError, RoomSpec
from tests.sandbox.test_conformance import assert_no_beat, sh, text

# The engines that isolate. What `local` does not hold back is in its gaps.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("engine", ["bubblewrap", "docker"], indirect=True)]

CANARY = "CANARY-5f1e7b"


@pytest.fixture(scope="module")
def secret() -> Iterator[Path]:
    """A file of the host that anybody on the host may read."""
    path = Path(f"/var/tmp/rooms-secret-{os.getpid()}")
    path.write_text(CANARY)
    path.chmod(0o644)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host beside the orchestrator, with a secret in its environment and its memory."""
    code = f"import sys, time; secret = {CANARY!r}; print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], env={"SECRET": CANARY}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def contents(path: Path) -> str:
    return path.read_text()


async def test_no_process_of_the_host_can_be_seen(room: Room, victim: subprocess.Popen[bytes]) -> None:
    everything = await room.run(sh("cat /proc/*/environ /proc/*/cmdline /proc/*/task/*/comm 2>/dev/null; true"))
    assert CANARY.encode() not in everything.stdout
    assert await text(room, f"[ -e /proc/{victim.pid}/exe ] && readlink /proc/{victim.pid}/exe; true") in ("", "\n")


async def test_no_process_of_the_host_can_be_signalled_or_traced(room: Room, victim: subprocess.Popen[bytes]) -> None:
    attack = (
        f"kill -9 {victim.pid} {os.getpid()} {os.getppid()}; "
        f"perl -e 'print syscall(101, 16, $_, 0, 0) == -1 ? 0 : 1 for ({victim.pid}, {os.getpid()})'; kill -9 -1"
    )
    done = await room.run(sh(attack))
    assert b"1" not in done.stdout
    assert victim.poll() is None
    assert await text(room, "echo alive") == "alive\n"


async def test_killing_everything_in_reach_spares_the_rooms_jobs_keeper_and_the_verdict(room: Room) -> None:
    """A command may kill what runs as its own user; that ends no other accounting than its own."""
    done = await room.run(sh("kill -STOP -1; kill -9 -1; sleep 60", time_s=3))
    assert not done.ok
    assert await text(room, "echo alive") == "alive\n"


async def test_a_stopped_keeper_does_not_lift_the_wall_limit(room: Room) -> None:
    stop = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = $$ ] || kill -STOP $p; done 2>/dev/null; sleep 60"
    done = await room.run(sh(stop, time_s=1))
    assert done.ended is Ended.TIMEOUT


async def test_files_of_the_host_are_out_of_reach(room: Room, secret: Path) -> None:
    tries = f"cat {secret}; ls -d /var/lib/orchestrator /var/run/docker.sock; ls /root; true"
    done = await room.run(sh(tries))
    assert done.stdout == b""


async def test_a_symbolic_link_leads_the_host_nowhere(room: Room, secret: Path) -> None:
    await room.run(sh(f"ln -sf {secret} link; ln -sfn {secret.parent} folder; ln -sf /proc/self/environ environ"))
    for path in ("link", f"folder/{secret.name}"):
        with pytest.raises(RoomFileError):
            await room.read(path)
    with pytest.raises(RoomFileError):
        await room.write(f"folder/../../{secret.parent}/{secret.name}/x", b"overwritten")
    for path in ("link", f"folder/{secret.name}"):
        try:
            await room.write(path, b"overwritten")
        except RoomFileError:
            continue
    assert contents(secret) == CANARY
    assert CANARY.encode() not in await room.read("environ")
    await room.run(sh("rm -rf link folder environ"))


async def test_a_workspace_full_of_traps_is_discarded_without_following_them(
    engine: Engine, spec: RoomSpec, place: Path
) -> None:
    kept = place / "kept"
    kept.mkdir(exist_ok=True)
    (kept / "precious").write_text(CANARY)
    workspace = place / "workspaces" / f"traps-{engine.name}"
    room = await engine.open(replace(spec, name="traps", workspace=workspace))
    await room.run(sh(f"ln -s {kept} out; mkdir -p a/b; ln -s ../../out a/b/c; mkfifo fifo; chmod 0 a"))
    await room.stop()
    await engine.discard(workspace)
    assert not workspace.exists()
    assert (kept / "precious").read_text() == CANARY


async def test_a_read_only_mount_can_not_be_made_writable(engine: Engine, spec: RoomSpec, place: Path) -> None:
    room = await engine.open(replace(spec, name="ro", workspace=None, mounts=(Mount(place / "readable", "/sources"),)))
    attack = (
        "mount -o remount,rw /sources; mount -o remount,rw,bind /; umount /sources; umount -l /proc; "
        "unshare -Urm sh -c 'mount -o remount,rw,bind /sources; echo x >/sources/note'; "
        "echo x >/sources/note; rm -f /sources/note; mv /sources/note /tmp/; chmod 777 /sources; true"
    )
    assert (await room.run(sh(attack, cwd="/tmp"))).exit_code == 0
    await room.stop()
    assert (place / "readable/note").read_text() == "read me"


async def test_device_nodes_and_setuid_programs_give_nothing(engine: Engine, room: Room) -> None:
    attack = "mknod disk b 254 0 && echo made; mknod mem c 1 1 && echo made; cat /dev/vda /dev/mem /dev/loop0; true"
    assert await text(room, attack) == ""
    # The kernel heeds no setuid bit for these processes, wherever the file lies; our own mounts say it again.
    assert "NoNewPrivs:\t1" in await text(room, "cat /proc/self/status")
    options = await text(room, "grep -E ' (/workspace|/tmp) ' /proc/self/mounts")
    ours = engine.name == "bubblewrap" or can_mount()
    assert options.count("nosuid") == len(options.splitlines()) == 2 or not ours, options
    assert await text(room, "cp /bin/sh mine && chmod 4755 mine && ./mine -pc 'id -u'; rm mine") != "0\n"


async def test_two_users_of_a_run_share_nothing(engine: Engine, spec: RoomSpec, place: Path) -> None:
    """Another seat's workspace, even when a mount shows it, is read by its modes; /tmp and processes are apart."""
    workspace = place / "workspaces" / f"theirs-{engine.name}"
    theirs = await engine.open(replace(spec, name="theirs", user=2, workspace=workspace))
    await theirs.run(sh(f"umask 077; echo {CANARY} >private; echo {CANARY} >/tmp/private"))
    await theirs.start("busy", sh(f"SECRET={CANARY} sleep 1234"))
    mine = await engine.open(replace(spec, name="mine", user=3, workspace=None, mounts=(Mount(workspace, "/sources"),)))
    seen = await mine.run(sh("cat /tmp/* /sources/private /proc/*/environ 2>/dev/null; true", cwd="/tmp"))
    if os.geteuid() == 0:
        assert CANARY.encode() not in seen.stdout
    assert "1234" not in await text(mine, "cat /proc/[0-9]*/cmdline 2>/dev/null | grep -ao '12[3]4'; true", cwd="/tmp")
    await theirs.stop()
    await mine.stop()
    await engine.discard(workspace)


async def test_a_job_can_not_forge_its_own_record(room: Room) -> None:
    records = "$(find / -path /proc -prune -o '(' -name rc -o -name status -o -name sweeper ')' -print 2>/dev/null)"
    forge = f"for f in {records}; do echo 0 >$f; done; exit 9"
    await room.start("forger", sh(f"ls -A /run/calls; {forge}"))
    done = (await room.job("forger", wait_s=60)).result
    assert done is not None
    assert (done.exit_code, done.stdout, done.ended) == (9, b"", Ended.EXITED)


async def test_a_swarm_of_daemons_ends_with_their_command(room: Room) -> None:
    daemon = "(setsid sh -c 'trap \"\" TERM; while :; do echo x >>beat; sleep 0.05; done' &)"
    swarm = f"for i in 1 2 3 4 5 6 7 8 9 10; do {daemon}; done; "
    done = await room.run(sh(swarm + "sleep 0.2"))
    assert done.ended is Ended.EXITED
    await assert_no_beat(room)


async def test_a_forking_daemon_does_not_outrun_its_end(room: Room) -> None:
    """A process that replaces itself all the time: found by name, it would always be one fork ahead."""
    runner = (
        "perl -e 'while (1) { my $p = fork; exit if $p; setpgrp; open F, \">>beat\"; print F 1; close F }' & sleep 0.5"
    )
    assert (await room.run(sh(runner, time_s=20))).ended in (Ended.EXITED, Ended.KILLED)
    await assert_no_beat(room)


async def test_a_hostile_environment_runs_nothing_on_the_host(room: Room, place: Path) -> None:
    """Variables that make host programs load code: they reach the command and nothing before it."""
    env = {
        "LD_PRELOAD": "/workspace/x.so",
        "ENV": "/workspace/rc",
        "PATH": "/workspace/bin",
        "PYTHONSTARTUP": "/workspace/rc",
    }
    await room.run(
        sh(
            "mkdir -p bin; for p in setpriv bwrap prlimit sh env cat timeout head; do "
            "printf '#!/bin/sh\\necho hijacked >/workspace/hijacked\\n' >bin/$p; chmod 755 bin/$p; done"
        )
    )
    done = await room.run(Command(("/bin/echo", "fine"), env=env))
    assert done.stdout == b"fine\n", done
    with pytest.raises(RoomFileError):
        await room.read("hijacked")
    await room.run(sh("rm -rf bin"))


async def test_nested_namespaces_are_refused(room: Room, engine: Engine) -> None:
    assert "yes" not in await text(
        room, "unshare -U true 2>/dev/null && echo yes; unshare -Urn true 2>/dev/null && echo yes; true"
    )


async def test_a_cancelled_flood_of_input_ends(room: Room) -> None:
    with anyio.move_on_after(0.5):
        await room.run(sh("sleep 60", stdin=bytes(8 << 20)))
    assert await text(room, "echo alive") == "alive\n"
