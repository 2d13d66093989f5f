"""A run keeps its own copy of what it was started with (P11), and knows when that copy is not whole."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from orchestrator import freezing
from orchestrator.control import EXIT
from orchestrator.freezing import PROMPTS, Frozen, compose, freeze, freeze_scripts, load_frozen, thawed
from orchestrator.project.folder import PRIVATE, load, overlaid, project_digests
from orchestrator.project.lock import LockDiffers
from orchestrator.recording import judged_by
from orchestrator.settings import Settings
from sandbox.keep import file_digest
from verifiers.suites import LockedCase

HELLO = Path(__file__).parents[2] / "projects" / "hello"
CASES = (
    LockedCase("greet/plain-one", "greet", "suites/greet/plain-one.txt", False),
    LockedCase("greet/loud-one", "greet", "suites/greet/loud-one.txt", True, ("inverse",), ("suites/greet/names.h",)),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HELLO, tmp_path / "hello"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "hello-1").mkdir()
    return tmp_path / "hello-1"


def frozen(folder: Path, run: Path) -> Frozen:
    return freeze(load(folder), run, CASES, {"image": "sha256:1"}, {"builder": "scripted:team.toml"})


def test_a_run_whose_project_was_edited_goes_on_with_the_same_digests(folder: Path, run: Path) -> None:
    before = frozen(folder, run)
    for name in ("goal.md", "prompts/all.md", "suites/look.sh", "seed/README.md", "project.toml"):
        (folder / name).write_text("edited")
    after = load_frozen(run)
    assert after.lock.digests == before.lock.digests
    assert after.project == before.project
    for name in ("goal.md", "suites/look.sh"):
        assert (after.project.folder / name).read_bytes() == (HELLO / name).read_bytes()


def test_an_upgrade_does_not_change_what_a_run_tells_its_seats(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = frozen(folder, run)
    newer = Path(shutil.copytree(PROMPTS, tmp_path / "newer"))
    (newer / "builder.md").write_text("You build otherwise now.\n")
    monkeypatch.setattr(freezing, "PROMPTS", newer)
    assert load_frozen(run).prompts == before.prompts


def test_the_version_that_a_run_records_is_the_one_that_is_released(folder: Path, run: Path) -> None:
    released = tomllib.loads((HELLO.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert frozen(folder, run).lock.orchestrator == released


def test_cases_come_back_as_they_were_locked(folder: Path, run: Path) -> None:
    frozen(folder, run)
    assert load_frozen(run).cases == CASES


def test_a_run_frozen_before_the_proof_was_a_part_of_its_own_is_known_by_today_s_parts(folder: Path, run: Path) -> None:
    """So that cheats may be added to a project without a recording of it being of another lock."""
    now = frozen(folder, run).lock
    older = {name: digest for name, digest in now.digests.items() if name != "proof"}
    older |= project_digests(folder, proof=False)
    assert older["project"] != now.digests["project"]
    (run / "lock.json").write_text(now.model_copy(update={"digests": older}).model_dump_json())
    assert load_frozen(run).lock.digests == now.digests
    (run / "frozen/project/cheats/canned/expect.toml").write_text("caught = 'nothing'\n")
    with pytest.raises(LockDiffers, match="project changed since the run was started"):
        load_frozen(run)


@pytest.mark.parametrize("kind", ["cheats", "honest", "reference"])
def test_what_proves_a_judge_is_no_part_of_what_judges(folder: Path, kind: str) -> None:
    before = project_digests(folder)
    (folder / kind / "more").mkdir(parents=True)
    (folder / kind / "more/file").write_text("more")
    after = project_digests(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"proof"}
    assert judged_by(after) == judged_by(before)


@pytest.mark.parametrize(
    "name", ["project/suites/look.sh", "project/seed/README.md", "prompts/builder.md", "cases.json", "project/more.txt"]
)
def test_a_copy_that_somebody_edited_is_refused_with_exit_code_6(folder: Path, run: Path, name: str) -> None:
    frozen(folder, run)
    with (run / "frozen" / name).open("a") as file:
        file.write("\n")
    with pytest.raises(LockDiffers, match="changed since the run was started") as caught:
        load_frozen(run)
    assert EXIT[caught.value.kind] == 6


def test_a_scripted_team_is_frozen_with_the_run(folder: Path, run: Path) -> None:
    asked = Settings(name="hello-1", project=str(folder), agents=1, models={"": f"scripted:{folder / 'team.toml'}"})
    settings = freeze_scripts(run, asked)
    frozen(folder, run)
    (folder / "team.toml").unlink()
    copy = Path(thawed(run, settings.models[""]).removeprefix("scripted:"))
    assert copy.read_bytes() == (HELLO / "team.toml").read_bytes()
    assert load_frozen(run).lock.digests["models.all-team.toml"] == file_digest(copy)
    copy.write_text("edited")
    with pytest.raises(LockDiffers, match=r"models\.all-team\.toml changed since the run was started"):
        load_frozen(run)


def test_private_files_are_part_of_the_project_and_not_of_its_folder(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "private/hello/suites/greet/plain-secret.txt"
    secret.parent.mkdir(parents=True)
    secret.write_text("greet/plain.sh\n--- input\nAda\n--- output\nHello, Ada\n")
    plain = frozen(folder, run).lock.digests["verifiers"]
    monkeypatch.setenv(PRIVATE, str(tmp_path / "private"))
    with overlaid(folder) as project:
        assert (project.folder / "suites/greet/plain-secret.txt").exists()
        (tmp_path / "hello-2").mkdir()
        assert freeze(project, tmp_path / "hello-2", CASES, {}, {}).lock.digests["verifiers"] != plain
    assert not (folder / "suites/greet/plain-secret.txt").exists()


def test_a_prompt_is_ours_then_the_projects_for_all_then_for_the_role(folder: Path) -> None:
    (folder / "prompts/all.md").write_text("For all.\n")
    (folder / "prompts/builder.md").write_text("For builders.\n")
    text = compose("builder", load(folder))
    assert text.startswith("You build the thing described in /team/GOAL.md")
    assert text.index("House rules") < text.index("For all.") < text.index("For builders.")


def test_a_role_of_the_projects_own_is_told_only_the_projects_words(folder: Path) -> None:
    (folder / "prompts/poet.md").write_text("You write verse.\n")
    file = folder / "project.toml"
    file.write_text(file.read_text().replace("builder = 4", "builder = 4\npoet = 1"))
    (folder / "prompts/all.md").write_text("For all.\n")
    assert compose("poet", load(folder)) == "You write verse.\n\nFor all.\n"


@pytest.mark.parametrize("role", ["builder", "planner"])
def test_shipped_prompts_leave_no_blank_to_fill_in(role: str) -> None:
    assert "{" not in compose(role, load(HELLO))
