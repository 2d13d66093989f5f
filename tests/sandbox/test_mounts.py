"""What is found mounted, read from the machine's own list as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox import mounts


@pytest.mark.skipif(not mounts.can_mount(), reason="mounting is for root")
@pytest.mark.parametrize("name", ["plain", "with a space", "tab\tin it"])
def test_what_is_mounted_below_a_folder_is_found_innermost_first_and_nothing_of_its_neighbours(
    tmp_path: Path, name: str
) -> None:
    mine, neighbour = tmp_path / name, tmp_path / f"{name}-too"
    inner = mine / "inner"
    for place in (mine, neighbour, inner):
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "test", str(place)], check=True)
    try:
        assert mounts.below(mine) == [inner, mine]
        assert mounts.below(inner) == [inner]
        mounts.release(mine)
        assert mounts.below(tmp_path) == [neighbour]
    finally:
        mounts.release(tmp_path)


def test_a_discarded_folder_leaves_no_disk_behind_not_even_one_that_was_being_made(tmp_path: Path) -> None:
    for name in ("here.disk", "here.disk.new"):
        (tmp_path / name).touch()
    (tmp_path / "here").mkdir()
    mounts.discard(tmp_path / "here")
    assert not [*tmp_path.iterdir()]
