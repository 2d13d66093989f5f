"""Choosing an engine, and what engines share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import limits
from sandbox.engines import choose
from sandbox.hosted import key
from sandbox.keep import state_home
from sandbox.limits import FIRST_UID, host_uid
from sandbox.room import EngineUnavailable, Limits


def test_local_is_never_chosen_but_by_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(None, place / "home").name in ("docker", "bubblewrap")
    assert choose("local", place / "home").name == "local"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/no.sock")
    assert choose(None, place / "home").name == "bubblewrap"


def test_a_wrong_name_and_a_silent_engine_are_refused_in_words(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="docker, bubblewrap and local"):
        choose("podman", place / "home")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/no.sock")
    with pytest.raises(EngineUnavailable, match="no Docker engine answers"):
        choose("docker", place / "home")


def test_room_users_are_host_users_of_their_own() -> None:
    users = {host_uid("run-1", user) for user in range(1000)} | {host_uid("run-2", user) for user in range(1000)}
    assert len(users) == 2000
    assert min(users) >= FIRST_UID
    assert host_uid("run-1", 3) == host_uid("run-1", 3)
    for wrong in (-1, 1000):
        with pytest.raises(ValueError, match="user must be"):
            host_uid("run-1", wrong)


def test_names_become_different_folder_names() -> None:
    names = ("a/b", "a b", "a-b", "../a-b", "x" * 300, "x" * 301)
    assert len({key(name) for name in names}) == len(names)
    assert all("/" not in key(name) and len(key(name)) < 64 for name in names)


def test_the_home_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", "/srv/rooms")
    assert state_home() == Path("/srv/rooms")


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups are root's here")
def test_a_room_of_more_weight_has_a_larger_share_of_a_scarce_cpu(tmp_path: Path) -> None:
    group = limits.Group(tuple(root / tmp_path.name for root in limits.group_roots()))
    try:
        group.make(Limits(weight=3))
        shares = [path.read_text().strip() for folder in group.folders for path in folder.glob("cpu.[sw]*[st]")]
        assert not group.folders or "3072" in shares or "300" in shares
    finally:
        group.end()
