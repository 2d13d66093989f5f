"""One declaration, one image: the same bits everywhere, whole or not there."""

from pathlib import Path

import anyio
import pytest

from sandbox.debian import CommandFailed, run
from sandbox.image import MOUNT_POINTS, ImageSpec, build, builder_mode, packages, request_digest
from sandbox.keep import file_digest, state_home
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
def root(spec: ImageSpec) -> RootFs:
    """Kept on the machine, so that only the first run of these tests builds it."""
    needs_builder()
    return anyio.run(lambda: build(spec, state_home(), progress=lambda _line: None))


def needs_builder() -> None:
    try:
        builder_mode()
    except EngineUnavailable as error:
        pytest.skip(str(error))


def test_the_same_declaration_gives_the_same_bits_and_two_builders_at_one_moment_build_once(
    spec: ImageSpec, root: RootFs, tmp_path: Path
) -> None:
    said: list[str] = []
    twins: list[RootFs] = []

    async def one() -> None:
        twins.append(await build(spec, tmp_path, progress=said.append))

    async def both() -> None:
        async with anyio.create_task_group() as builders:
            builders.start_soon(one)
            builders.start_soon(one)

    anyio.run(both)
    first, second = twins
    assert first == second and said.count(STEP) == 1
    assert first.digest == file_digest(first.tar)
    if packages(first) == packages(root):  # the mirror has not moved since the kept one was built
        assert first.digest == root.digest == file_digest(root.tar)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"requests", first.tree.parent.name}
    assert not list((tmp_path / "images/requests").glob("*half*"))


def test_a_second_build_is_a_lookup(spec: ImageSpec, root: RootFs) -> None:
    said: list[str] = []
    assert anyio.run(lambda: build(spec, state_home(), progress=said.append)) == root
    assert (state_home() / "images/requests" / request_digest(spec)).read_text().strip() == root.digest
    assert said == []


def test_setup_ran_as_root_after_the_files_were_there(root: RootFs) -> None:
    tree = root.tree
    assert (tree / "etc/said").read_text() == "hello\n"
    assert (tree / "etc/who").read_text() == "0\n"
    assert (tree / "opt/greeting/link").readlink() == Path("hello")
    assert not (tree / "usr/bin/yes").exists()
    assert not (tree / ".setup").exists()


def test_a_judge_s_image_holds_no_compiler_git_python_or_apt(root: RootFs) -> None:
    found = {path.name for path in (root.tree / "usr/bin").iterdir()}
    assert "sh" in found and not found & {"gcc", "cc", "as", "ld", "git", "python3", "apt-get", "make"}
    assert {"netbase", "libc6"} <= packages(root).keys()
    assert all(version[0].isdigit() for version in packages(root).values())


def test_every_mount_point_is_there_and_nothing_of_this_machine_is(root: RootFs) -> None:
    tree = root.tree
    assert all((tree / point).is_dir() and not list((tree / point).iterdir()) for point in MOUNT_POINTS)
    assert (tree / "etc/hostname").read_text() == "room\n"
    assert (tree / "etc/resolv.conf").read_text() == ""
    assert not (tree / "etc/apt/sources.list").exists()
    assert "directory = *" in (tree / "etc/gitconfig").read_text()
    assert not list((tree / "usr/share/doc").rglob("*.gz"))


def test_other_users_can_read_the_tree(root: RootFs) -> None:
    for path in (root.tree, root.tree / "usr/bin", root.tree.parent):
        assert path.stat().st_mode & 0o005 == 0o005, path


def test_a_build_that_is_cancelled_leaves_nothing_that_is_found(spec: ImageSpec, tmp_path: Path) -> None:
    needs_builder()

    async def cut() -> None:
        with anyio.CancelScope() as scope:
            await build(spec, tmp_path, progress=lambda line: scope.cancel() if "download" in line else None)
        assert scope.cancelled_caught

    anyio.run(cut)
    assert not (tmp_path / "images/requests" / request_digest(spec)).exists()
    assert sorted(path.suffix for path in (tmp_path / "images/requests").iterdir()) == [".lock"]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_command_that_fails_is_named_with_the_end_of_what_it_said(stream: str) -> None:
    """So a package that nobody knows is named: the builder says it, on the stream that progress is heard from."""
    said = f"for n in $(seq 99); do echo step $n; done >&{stream}; echo E: Unable to locate package nothing >&{stream}"
    with pytest.raises(CommandFailed, match=r"^sh -c ended with 100:\n(?s:.*)package nothing$") as caught:
        anyio.run(run, ["sh", "-c", f"{said}; exit 100"])
    assert "step 99" in str(caught.value) and "step 9\n" not in str(caught.value)


def test_a_declaration_is_its_content_not_its_place(tmp_path: Path) -> None:
    scripts = [tmp_path / name for name in ("a.sh", "b.sh", "c.sh")]
    for script, text in zip(scripts, ("true\n", "true\n", "false\n"), strict=True):
        script.write_text(text)
    same, moved, other = (request_digest(ImageSpec(("x", "y"), setup=script)) for script in scripts)
    assert same == moved == request_digest(ImageSpec(("y", "x"), setup=scripts[0]))
    assert len({same, other, request_digest(ImageSpec(("x", "y"))), request_digest(ImageSpec(("x",)))}) == 4
