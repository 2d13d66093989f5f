"""Wrong project files: each likely mistake is answered with file, line and remedy, and nothing starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.control import EXIT
from orchestrator.project.folder import PRIVATE, load, overlaid
from orchestrator.project.reading import ConfigError

GOOD = """\
schema = 1
forbid = ["gcc"]

[image]
packages = ["git", "python3-minimal"]

[sources]
texts = { deb = "miscfiles" }

[build]
run = "true"
artifacts = ["out"]
time = "10m"

[limits]
memory = "4G"

[[suite]]
name = "greet"
cases = "suites/greet/*.txt"
steps = ["suites/one.sh"]
heldout = 0.2
allow = ["gcc"]

[[suite]]
name = "unit"
room = "build"
run = "suites/unit.sh"
results = "libtest"
when = "gate"

[roles]
builder = 2

[budget]
usd = 5
idle = "1h"

[[milestone]]
name = "greets"
credit = 60
needs = { greet = 0.99 }
"""


def write_project(folder: Path, text: str = GOOD) -> Path:
    """A small valid project, but for what `text` says."""
    for name, content in {
        "project.toml": text,
        "goal.md": "Say hello.\n",
        "seed/README.md": "Empty.\n",
        "suites/one.sh": "#!/bin/sh\n",
        "suites/unit.sh": "#!/bin/sh\n",
        "suites/plain.sh": "#!/bin/sh\n",
        "suites/greet/a.txt": "a\n",
        "prompts/poet.md": "You write verse.\n" if "poet" in text else "",
        "cheats/fake/expect.toml": 'caught = "no-case"\n',
    }.items():
        if not content:
            continue
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if name.endswith(".sh") and "plain" not in name:
            file.chmod(0o755)
    return folder


# What is replaced in the good file, by what; the line of the answer; what the answer says.
MISTAKES = {
    "unknown key": (
        'run = "true"',
        'runs = "true"',
        11,
        "build.runs is not a key of this version; did you mean build.run?",
    ),
    "unknown table": ("[limits]", "[limit]", 15, "limit is not a key of this version; did you mean limits?"),
    "unknown key of a suite": ("heldout = 0.2", "held_out = 0.2", 22, "did you mean suite.heldout?"),
    "missing key": ('run = "true"\n', "", 10, "build.run is required"),
    "missing schema": ("schema = 1", "", 1, 'schema is required: write "schema = 1"'),
    "schema of the future": ("schema = 1", "schema = 2", 1, "schema must be 1 in this version (got 2)"),
    "not TOML": ('time = "10m"', "time = 10m", 13, "not valid TOML"),
    "unclosed text": ('run = "true"', 'run = "true', 11, "not valid TOML"),
    "key twice": ("usd = 5", "usd = 5\nusd = 6", 37, "a key or table stands once"),
    "table twice": ("[budget]", "[limits]", 35, "a key or table stands once"),
    "number with a comma": ("usd = 5", "usd = 5,000", 36, "numbers like 2000 or 2_000"),
    "nested too deeply": ("usd = 5", f"usd = {'[' * 3000}", 0, "is nested too deeply"),
    "size without unit": ('memory = "4G"', "memory = 4", 16, 'like "4G"'),
    "memory too small": ('"4G"', '"1K"', 16, 'at least "64M"'),
    "memory too large": ('"4G"', f'"{"9" * 400}T"', 16, 'like "4G"'),
    "disk too small": ('memory = "4G"', 'disk = "1M"', 16, 'at least "64M"'),
    "endless": ('memory = "4G"', "cpus = inf", 16, "limits.cpus must be a finite number"),
    "no number": ('memory = "4G"', "cpus = nan", 16, "limits.cpus must be a finite number"),
    "duration without unit": ('time = "10m"', 'time = "10"', 13, 'like "10s"'),
    "share in percent": ("heldout = 0.2", "heldout = 20", 22, "suite.heldout must be less than or equal to 1 (got 20)"),
    "needs in percent": ("greet = 0.99", "greet = 99", 42, "needs.greet must be less than or equal to 1 (got 99)"),
    "needs with a bound": ("greet = 0.99", 'greet = "<= 1"', 42, "needs.greet must be a valid number (got '<= 1')"),
    "key by our own name": ('idle = "1h"', 'idle_s = "1h"', 37, "did you mean budget.idle?"),
    "money with a sign": ("usd = 5", 'usd = "$5"', 36, "without a currency sign"),
    "text for a number": ("builder = 2", 'builder = "2"', 33, "roles.builder must be a valid integer"),
    "no seats": ("builder = 2", "builder = 0", 33, "roles.builder must be greater than or equal to 1"),
    "role misspelt": ("builder = 2", "builder = 1\nbilder = 1", 34, "did you mean roles.builder?"),
    "role of a later version": ("builder = 2", "builder = 1\nreviewer = 1", 34, "is not a role of this version"),
    "no builder": ("builder = 2", "planner = 1", 32, "write builder = 1"),
    "one table for suites": ('[[suite]]\nname = "greet"', '[suite]\nname = "greet"', 25, "not valid TOML"),
    "many tables for one": ("[image]", "[[image]]", 4, "must be one table; write [image]"),
    "packages in one text": ('["git", "python3-minimal"]', '["git python3-minimal"]', 5, "one name a string"),
    "packages not a list": ('["git", "python3-minimal"]', '"git"', 5, 'must be a list; write packages = ["git"]'),
    "no packages": ('["git", "python3-minimal"]', "[]", 5, "image.packages must not be empty"),
    "base of another kind": ("[image]", '[image]\nbase = "ubuntu:22.04"', 5, 'like "debian:bookworm"'),
    "two suites of one name": ('name = "unit"', 'name = "greet"', 26, "two suites are named greet"),
    "glob that matches nothing": ("greet/*.txt", "greet/*.c", 20, "suites/greet/*.c matches no file"),
    "glob that is none": ("suites/greet/*.txt", "suites/**greet/*.txt", 20, "is no pattern of files"),
    "glob of nothing": ("suites/greet/*.txt", ".", 20, "is no pattern of files"),
    "glob out of the folder": ("suites/greet/*.txt", "../greet/*.txt", 20, "must be a path inside its folder"),
    "source that is an option": ('"miscfiles"', '"--bad"', 8, "sources.texts.deb is no Debian package's name"),
    "source not declared": ("suites/greet/*.txt", "sources/text/*.c", 20, "did you mean texts?"),
    "source without a kind": ('{ deb = "miscfiles" }', "{ show = true }", 8, "exactly one of deb, src"),
    "source by address": (
        '{ deb = "miscfiles" }',
        '{ url = "https://x.example/y", sha256 = "' + "0" * 64 + '" }',
        8,
        "is not a key of this version",
    ),
    "command not there": ("suites/one.sh", "suites/ones.sh", 21, "did you mean suites/one.sh?"),
    "command with an open quote": ("suites/unit.sh", "suites/unit.sh 'x", 28, "suite.run No closing quotation"),
    "step with an open quote": (
        '["suites/one.sh"]',
        """['suites/one.sh "x']""",
        21,
        "suite.steps No closing quotation",
    ),
    "command of the machine": (
        "suites/unit.sh",
        "/bin/sh suites/unit.sh",
        28,
        "must begin with a path inside the project",
    ),
    "command outside": ("suites/unit.sh", "../hello/suites/unit.sh", 28, "must begin with a path inside the project"),
    "product of no step": ('["suites/one.sh"]', '["$OUT/a"]', 21, "cannot come first"),
    "command not executable": ("suites/one.sh", "suites/plain.sh", 21, "chmod +x"),
    "run and steps": (
        'steps = ["suites/one.sh"]',
        'steps = ["suites/one.sh"]\nrun = "suites/one.sh"',
        18,
        "exactly one of",
    ),
    "no way to judge": ('steps = ["suites/one.sh"]\n', "", 18, "exactly one of run, steps"),
    "whole suite without results": ('results = "libtest"\n', "", 25, 'results = "libtest"'),
    "results of another kind": (
        'results = "libtest"',
        'results = "tap"',
        29,
        "must be 'exit' or 'libtest' in this version",
    ),
    "held out of a whole suite": ('when = "gate"', 'when = "gate"\nheldout = 0.5', 31, "heldout needs cases"),
    "unknown tier": ('when = "gate"', 'when = "gates"', 30, "suite.when must be 'fast', 'gate' or 'main'"),
    "taken back though it never lands": (
        'when = "gate"',
        'when = "gate"\nrevert = true',
        31,
        'revert is for a suite with when = "main"',
    ),
    "nothing to gate": (
        'heldout = 0.2\nallow = ["gcc"]\n\n[[suite]]\nname = "unit"\nroom = "build"\nrun = "suites/unit.sh"\n'
        'results = "libtest"\nwhen = "gate"',
        'heldout = 0.2\nallow = ["gcc"]\nwhen = "main"',
        24,
        "the gate would judge nothing",
    ),
    "hidden here, shown there": (
        'room = "build"\nrun = "suites/unit.sh"\nresults = "libtest"',
        'cases = "suites/greet/*.txt"\nrun = "suites/one.sh"',
        25,
        "suites/greet/*.txt would be hidden here and shown there",
    ),
    "allow what is allowed": ('allow = ["gcc"]', 'allow = ["as"]', 23, "which forbid does not forbid"),
    "forbid a path": ('forbid = ["gcc"]', 'forbid = ["/usr/bin/gcc"]', 2, "a program's name without path"),
    "artifact without a name": ('artifacts = ["out"]', 'artifacts = [""]', 12, "must be a path inside its folder"),
    "artifact outside": ('artifacts = ["out"]', 'artifacts = ["../out"]', 12, "must be a path inside its folder"),
    "milestone of no suite": ("greet = 0.99", "great = 0.99", 42, "did you mean greet?"),
    "too much credit": (
        "credit = 60",
        "credit = 60\nneeds = { unit = 1.0 }\n[[milestone]]\nname = 'b'\ncredit = 50",
        39,
        "add up to 110",
    ),
    "two milestones of one name": (
        "credit = 60",
        "credit = 60\nneeds = { unit = 1.0 }\n[[milestone]]\nname = 'greets'\ncredit = 5",
        44,
        "two milestones are named greets",
    ),
    "network of a wrong form": ("schema = 1", 'schema = 1\nnetwork = "yes"', 2, "network must be 'none'"),
    "network not yet": ("schema = 1", 'schema = 1\nnetwork = "open"', 2, "network must be 'none' in this version"),
    "verifier not yet": ('steps = ["suites/one.sh"]', 'verifier = "suites/one.sh"', 21, "is not a key of this version"),
    "generate not yet": (
        'cases = "suites/greet/*.txt"',
        'generate = "suites/one.sh"\ncount = 3',
        20,
        "is not a key of this version",
    ),
    "variants not yet": ("heldout = 0.2", 'variants = ["x86_64"]', 22, "suite.variants is not a key of this version"),
    "cases of a command not yet": (
        '"suites/greet/*.txt"',
        '"!suites/one.sh"',
        20,
        "suite.cases must be a pattern of files in this version, not a command that lists cases (got '!suites/one.sh')",
    ),
    "warm not yet": ('time = "10m"', 'time = "10m"\nwarm = ["work"]', 14, "is not a key of this version"),
    "follow-up not yet": (
        "[budget]",
        "[[followup]]\nname = 'x'\n[budget]",
        35,
        "is not a key of this version",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_a_wrong_project_file_is_answered_with_file_line_and_remedy(mistake: str, tmp_path: Path) -> None:
    old, new, line, words = MISTAKES[mistake]
    assert old in GOOD
    folder = write_project(tmp_path / "hello", GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(folder)
    answers = str(caught.value).splitlines()
    matching = [
        answer
        for answer in answers
        if answer.startswith(f"{folder}/project.toml{f':{line}' if line else ''}: ") and words in answer
    ]
    assert matching, answers
    assert EXIT[caught.value.kind] == 2


def test_the_file_that_the_mistakes_are_made_in_is_right(tmp_path: Path) -> None:
    project = load(write_project(tmp_path / "hello"))
    assert project.name == "hello"
    assert [suite.name for suite in project.suites] == ["greet", "unit"]
    assert project.budget.usd == 5_000_000
    assert project.limits.memory == 4 << 30


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("greet = 0.99", "great = 0.99").replace('allow = ["gcc"]', 'allow = ["as"]')
    with pytest.raises(ConfigError) as caught:
        load(write_project(tmp_path / "hello", text))
    assert [problem.line for problem in caught.value.problems] == [23, 42]


MISSING = {
    "project.toml": "project.toml: is missing; docs/project-authors.md says",
    "goal.md": "say there what is to be built",
    "seed/README.md": "holds the first commit of main",
    "cheats/fake/expect.toml": "expect.toml: is missing; docs/project-authors.md says",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_named_with_what_it_is_for(name: str, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "hello")
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=MISSING[name]):
        load(folder)


OTHER_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "a prompt for nobody": (
        "prompts/bilder.md",
        "You build.\n",
        "prompts/bilder.md: is for no role of this project; did you",
    ),
    "a cheat's unknown key": (
        "cheats/fake/expect.toml",
        'cought = "x"\n',
        "expect.toml:1: cought is not a key of this version; did you mean caught?",
    ),
    "a reference's unknown suite": (
        "reference/expect.toml",
        "\nsuites = { gret = 1.0 }\n",
        "expect.toml:2: gret is no suite; did you mean greet?",
    ),
    "a task after none": (
        "plan.toml",
        "[[task]]\nname='a'\ntitle='A'\nwhy='w'\ncases=['greet/*']\nafter=['b']\n",
        "plan.toml:6: b is no task above",
    ),
    "a reference's package that is an option": (
        "reference/expect.toml",
        "packages = ['--bad']\n",
        "expect.toml:1: packages is no Debian package's name",
    ),
    "a plan of no tasks": (
        "plan.toml",
        "[[task]]\nname='a'\ntitle='A'\nwhy='w'\ncases=[]\n",
        "plan.toml:5: task.cases must",
    ),
    "a goal that is not UTF-8": (
        "goal.md",
        b"Say\nh\xe9llo.\n",
        "goal.md:2: is not UTF-8 text: invalid continuation byte",
    ),
    "a prompt that is not UTF-8": ("prompts/all.md", b"\xe9", "prompts/all.md:1: is not UTF-8 text"),
    "a blank goal": ("goal.md", "\n \n", "goal.md: is empty; say there what is to be built"),
    "a case with a space": ("suites/greet/a b.txt", "a", "project.toml:20: 'suites/greet/a b.txt' cannot be a case"),
    "a case with a comma": ("suites/greet/a,b.txt", "a", "project.toml:20: 'suites/greet/a,b.txt' cannot be a case"),
    "a case that is not UTF-8": (
        os.fsdecode(b"suites/greet/\xe9.txt"),
        "a",
        r"'suites/greet/\udce9.txt' cannot be a case",
    ),
    "a prompt that is a folder": ("prompts/all.md/x", "x", "prompts/all.md: must be a file"),
    "a setup that is a folder": ("image/setup.sh/x", "x", "image/setup.sh: must be a file"),
    "a setup with CRLF": ("image/setup.sh", "#!/bin/sh\r\n", "image/setup.sh:1: ends lines with CRLF"),
    "a lock that is a folder": ("project.lock/x", "x", "project.lock: must be a file"),
    "image/files as a file": ("image/files", "x", "image/files: must be a folder"),
    "image as a file": ("image", "x", "image: must be a folder"),
    "reference as a file": ("reference", "x", "reference: must be a folder"),
    "prompts as a file": ("prompts", "x", "prompts: must be a folder"),
    "a runner without #!": ("suites/one.sh", "exit 0\n", "suites/one.sh:1: does not begin with a #! line"),
    "a runner with CRLF": (
        "suites/one.sh",
        "#!/bin/sh\nexit\r\n",
        "suites/one.sh:2: ends lines with CRLF; run there: sed",
    ),
    "a task's unknown suite": (
        "plan.toml",
        "[[task]]\nname='a'\ntitle='A'\nwhy='w'\ncases=['gret/*']\n",
        "plan.toml:5: gret/* is in no suite; did you mean greet?",
    ),
}


@pytest.mark.parametrize("mistake", OTHER_FILES, ids=lambda name: name.replace(" ", "-"))
def test_the_folders_other_files_are_checked_like_the_first(mistake: str, tmp_path: Path) -> None:
    name, text, words = OTHER_FILES[mistake]
    folder = write_project(tmp_path / "hello")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert words in str(caught.value)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def nowhere(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


SPECIAL = {
    "a pipe for a project": ("project.toml", pipe, "project.toml: is neither file, folder nor link; remove it"),
    "a pipe in the seed": ("seed/pipe", pipe, "seed/pipe: is neither file, folder nor link; remove it"),
    "a plan that leads nowhere": ("plan.toml", nowhere, "plan.toml: must be a file"),
    "a folder that leads nowhere": ("cheats/fake/../../image", nowhere, "image: must be a folder"),
}


@pytest.mark.parametrize("mistake", SPECIAL, ids=lambda name: name.replace(" ", "-"))
def test_only_files_and_folders_are_read(mistake: str, tmp_path: Path) -> None:
    name, make, words = SPECIAL[mistake]
    folder = write_project(tmp_path / "hello")
    make(folder / name)
    with pytest.raises(ConfigError, match=words):
        load(folder)


@pytest.mark.parametrize("name", ["suites", "goal.md", "a.txt", "hello"])
def test_what_may_not_be_read_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_project(tmp_path / "hello")
    monkeypatch.setattr(os, "access", lambda path, *_mode, **_how: path.name != name)  # root may read everything
    with pytest.raises(ConfigError, match=f"/{name}: cannot be read; run: chmod"):
        load(folder)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "hello")
    (folder / "project.toml").write_text("\ufeff" + GOOD)
    assert load(folder) == load(write_project(tmp_path / "hello"))


def test_mistakes_of_an_overlay_are_told_where_its_author_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, private = write_project(tmp_path / "hello"), tmp_path / "private/hello"
    private.mkdir(parents=True)
    monkeypatch.setenv(PRIVATE, str(private.parent))
    (private / "project.toml").write_text(GOOD.replace("builder = 2", "builder = 3"))
    with overlaid(folder) as project:
        assert project.roles == {"builder": 3}
    (private / "project.toml").write_text(GOOD.replace("builder = 2", "bilder = 2").replace("one.sh", "plain.sh"))
    (folder / "goal.md").unlink()
    with pytest.raises(ConfigError) as caught, overlaid(folder):
        pass
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        (folder / "goal.md", 0),
        (private / "project.toml", 21),
        (private / "project.toml", 32),
        (private / "project.toml", 33),
    ]
    assert "orchestrator-project" not in str(caught.value)
    (private / "goal.md").mkdir()
    with pytest.raises(ConfigError, match=rf"{private}/goal\.md: must be a file"), overlaid(folder):
        pass
    (folder / "goal.md").write_text("Say hello.\n")
    with pytest.raises(ConfigError, match=f"{private}: cannot be laid over {folder}"), overlaid(folder):
        pass
