"""What stands between a fresh machine and a run: the lock, the scripts, the Docker engine that only we may end."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from tests.orchestrator.running import isolates

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {match[1] for match in re.finditer(r"^([a-z0-9.-]+)==", LOCK, re.MULTILINE)}


def asked_for() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    return {re.split(r"[^a-z0-9-]", line)[0] for line in lines}


def test_the_lock_holds_everything_that_pyproject_asks_for() -> None:
    assert asked_for() <= LOCKED


def test_every_locked_package_has_hashes_and_none_an_address() -> None:
    entries = [entry for entry in re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE) if not entry.startswith("#")]
    assert len(entries) == len(LOCKED)
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK and "index-url" not in LOCK and "find-links" not in LOCK


def test_what_is_installed_here_is_what_the_lock_says() -> None:
    wrong = {name: version(name) for name in asked_for() if f"\n{name}=={version(name)} " not in LOCK}
    assert wrong == {}


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "setup").glob("*.sh")))
def test_every_script_is_a_plain_shell_s(script: str) -> None:
    checked = subprocess.run(["sh", "-n", ROOT / "setup" / script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_start_is_told_of_a_sandbox_only_where_no_room_can_be_isolated() -> None:
    said = subprocess.run([ROOT / "setup/engine.sh"], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr.count("WARNING")) == (("", 0) if isolates() else ("--sandbox local\n", 3))


def stop_docker(home: Path) -> None:
    env = os.environ | {"ORCHESTRATOR_HOME": str(home)}
    subprocess.run([ROOT / "setup/docker.sh", "stop"], env=env, check=True, timeout=60)


def start_time(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]


def test_a_docker_engine_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    stranger = psutil.Popen(["sleep", "60"])
    try:
        (tmp_path / "dockerd.pid").write_text(f"{stranger.pid} 1\n")  # the number was ours, the process is not
        stop_docker(tmp_path)
        assert stranger.is_running() and stranger.poll() is None
        assert not (tmp_path / "dockerd.pid").exists()
        stop_docker(tmp_path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_engine_that_we_started_is_ended(tmp_path: Path) -> None:
    ours = psutil.Popen(["sleep", "60"])
    (tmp_path / "dockerd.pid").write_text(f"{ours.pid} {start_time(ours)}\n")
    # The script waits for the process to be gone, which takes somebody to collect it.
    stopper = subprocess.Popen(
        [ROOT / "setup/docker.sh", "stop"], env=os.environ | {"ORCHESTRATOR_HOME": str(tmp_path)}
    )
    assert ours.wait(timeout=60) == -15
    assert stopper.wait(timeout=60) == 0
    assert not (tmp_path / "dockerd.pid").exists()
