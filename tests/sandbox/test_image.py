"""One declaration, one image: the same bits everywhere, whole or not there."""

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sandbox.debian import CommandFailed
from sandbox.digest import file_digest
from sandbox.image import MOUNT_POINTS, ImageSpec, build, builder_mode, find, kept, packages, request_digest
from sandbox.room import EngineUnavailable, RootFs

STEP = "creating tarball"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    """The smallest image that uses every key."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "files/opt/greeting").mkdir(parents=True)
    (folder / "files/opt/greeting/hello").write_text("hello\n")
    (folder / "files/opt/greeting/link").symlink_to("hello")
    setup = folder / "setup.sh"
    setup.write_text("#!/bin/sh\nset -e\ncp /opt/greeting/hello /etc/said\nid -u >/etc/who\nrm /usr/bin/yes\n")
    return ImageSpec(packages=("netbase",), setup=setup, files=folder / "files", judge=True)


@pytest.fixture(scope="module")
def built(
    spec: ImageSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RootFs, RootFs, list[str], Path]]:
    """The declaration built twice, in two homes: by one builder, then by two at the same moment."""
    try:
        builder_mode()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    said: list[str] = []
    first_home, second_home = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")

    async def both() -> tuple[RootFs, RootFs]:
        first = await build(spec, first_home, progress=lambda _line: None)
        twins: list[RootFs] = []

        async def one() -> None:
            twins.append(await build(spec, second_home, progress=said.append))

        async with anyio.create_task_group() as builders:
            builders.start_soon(one)
            builders.start_soon(one)
        assert twins[0] == twins[1]
        return first, twins[0]

    first, second = anyio.run(both)
    yield first, second, said, first_home


Built = tuple[RootFs, RootFs, list[str], Path]


def test_the_same_declaration_gives_the_same_bits_and_the_digest_is_the_tar_s(built: Built) -> None:
    first, second, _, _ = built
    assert first.digest == second.digest == file_digest(first.tar) == file_digest(second.tar)


def test_two_builders_at_the_same_moment_build_once(built: Built) -> None:
    assert built[2].count(STEP) == 1


def test_a_second_build_is_a_lookup_by_declaration_and_by_digest(built: Built, spec: ImageSpec) -> None:
    first, _, _, home = built
    said: list[str] = []
    assert anyio.run(lambda: build(spec, home, progress=said.append)) == first == kept(first.digest, home)
    assert said == []


def test_nothing_half_made_is_left_behind(built: Built) -> None:
    home = built[3]
    assert {path.name for path in (home / "images").iterdir()} == {"requests", built[0].digest.removeprefix("sha256:")}
    assert not list((home / "images/requests").glob("*half*"))


def test_setup_ran_as_root_after_the_files_were_there(built: Built) -> None:
    tree = built[0].tree
    assert (tree / "etc/said").read_text() == "hello\n"
    assert (tree / "etc/who").read_text() == "0\n"
    assert (tree / "opt/greeting/link").readlink() == Path("hello")
    assert not (tree / "usr/bin/yes").exists()
    assert not (tree / ".setup").exists()


def test_a_judge_s_image_holds_no_compiler_git_python_or_apt(built: Built) -> None:
    found = {path.name for path in (built[0].tree / "usr/bin").iterdir()}
    assert "sh" in found and not found & {"gcc", "cc", "as", "ld", "git", "python3", "apt-get", "make"}
    assert {"netbase", "libc6"} <= packages(built[0]).keys()
    assert all(version[0].isdigit() for version in packages(built[0]).values())


def test_every_mount_point_is_there_and_nothing_of_this_machine_is(built: Built) -> None:
    tree = built[0].tree
    assert all((tree / point).is_dir() and not list((tree / point).iterdir()) for point in MOUNT_POINTS)
    assert (tree / "etc/hostname").read_text() == "room\n"
    assert (tree / "etc/resolv.conf").read_text() == ""
    assert not (tree / "etc/apt/sources.list").exists()
    assert "directory = *" in (tree / "etc/gitconfig").read_text()
    assert not list((tree / "usr/share/doc").rglob("*.gz"))


def test_other_users_can_read_the_tree(built: Built) -> None:
    for path in (built[0].tree, built[0].tree / "usr/bin", built[0].tree.parent):
        assert path.stat().st_mode & 0o005 == 0o005, path


def test_a_build_that_is_cancelled_leaves_nothing_that_is_found(spec: ImageSpec, tmp_path: Path) -> None:
    try:
        builder_mode()
    except EngineUnavailable as error:
        pytest.skip(str(error))

    async def cut() -> None:
        with anyio.CancelScope() as scope:
            await build(spec, tmp_path, progress=lambda line: scope.cancel() if "download" in line else None)
        assert scope.cancelled_caught

    anyio.run(cut)
    assert find(spec, tmp_path) is None
    assert sorted(path.suffix for path in (tmp_path / "images/requests").iterdir()) == [".lock"]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_an_unknown_package_is_named_in_the_error(tmp_path: Path) -> None:
    try:
        builder_mode()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    wrong = ImageSpec(packages=("no-such-package-anywhere",), judge=True)
    with pytest.raises(CommandFailed, match="no-such-package-anywhere"):
        anyio.run(lambda: build(wrong, tmp_path, progress=lambda _line: None))
    assert find(wrong, tmp_path) is None


def test_a_base_that_is_not_debian_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="debian:bookworm"):
        anyio.run(lambda: build(ImageSpec((), base="alpine:3"), tmp_path, progress=lambda _line: None))


def test_a_declaration_is_its_content_not_its_place(tmp_path: Path) -> None:
    scripts = [tmp_path / name for name in ("a.sh", "b.sh", "c.sh")]
    for script, text in zip(scripts, ("true\n", "true\n", "false\n"), strict=True):
        script.write_text(text)
    same, moved, other = (request_digest(ImageSpec(("x", "y"), setup=script)) for script in scripts)
    assert same == moved == request_digest(ImageSpec(("y", "x"), setup=scripts[0]))
    assert len({same, other, request_digest(ImageSpec(("x", "y"))), request_digest(ImageSpec(("x",)))}) == 4


def test_an_image_of_another_digest_is_not_found(tmp_path: Path) -> None:
    assert kept("sha256:" + os.urandom(32).hex(), tmp_path) is None
