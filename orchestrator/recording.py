"""A run as a recording: the calls of its sessions and what became of them, in the order in which they took effect.

One file of JSON lines, compressed: a head, then steps. It holds what the minds decided and nothing that they were
answered: no output, and no line of a case's source, for which a reference stands. Recording a replay of it gives the
same bytes.
"""

import base64
import json
import lzma
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from orchestrator.control import Refusal
from orchestrator.git import Git
from orchestrator.project.lock import LockDiffers
from orchestrator.store import reading, sessions
from orchestrator.workspace import CHECKPOINT

FILE: Final = "recording/recording.jsonl.xz"  # in a project's folder
JUDGED: Final = 32  # bytes of a run's secret by which cases are drawn
IN_ROOM: Final = ("shell", "wait", "edit", "view")
JUDGING: Final = ("project", "verifiers", "seed", "cases", "sources")  # parts of a lock, pinned, that decide verdicts
WINDOW, WEIGHT = 3, 40  # lines in a row, and characters in them, from which on they are a quotation
REFERENCE: Final = "\0"  # begins the line that stands for a quotation; no argument of a call may hold this character
UNANSWERED: Final = "unanswered"  # what a submission came to whose change has no end here


class Head(BaseModel, frozen=True, extra="forbid"):
    recording: int = 1
    run: str
    project: str
    digests: Mapping[str, str]
    secret: str
    """By which cases were drawn, as hex: the same answers are right, so the same cases pass."""
    main: tuple[str, ...]
    """Commit ids, the seed's first: a step's `main` is a place in it."""


class Step(BaseModel, frozen=True, extra="forbid"):
    """One thing that happened. `id` is a session's, a call's, a change's; of `judge`, the changes of one judgement; of
    `revert`, the change that is taken back."""

    do: Literal["start", "call", "stage", "judge", "change", "revert", "end"]
    id: str
    at: datetime
    main: int
    role: str = ""
    open: bool = False
    task: str = ""  # that was handed out at the session's start
    tool: str = ""
    arguments: dict[str, Any] = {}
    kind: str = ""  # of a call's result, a change's end, a session's end
    tree: str = ""  # of the workspace after a call
    moved: bool = False  # the workspace, or git's state in it, was another after the call
    rested: bool = False  # its room was a new one: the session had been left, or its room had died, before the call
    left: tuple[str, str] | tuple[()] = ()
    """What a call left that was cut short, because nobody can do it again: a checkpoint's commit, and its objects that
    are not in `main` as a pack, base64."""

    @property
    def session(self) -> str:
        return self.id.rsplit(".", 2)[0]

    @property
    def in_room(self) -> bool:
        return self.do == "call" and self.tool in IN_ROOM


@dataclass(frozen=True)
class Recording:
    head: Head
    steps: tuple[Step, ...]

    def packed(self) -> bytes:
        lines = (one.model_dump_json(exclude_defaults=True) + "\n" for one in (self.head, *self.steps))
        return lzma.compress("".join(lines).encode(), preset=9)

    @classmethod
    def read(cls, file: Path) -> "Recording":
        """Raises `Refusal`."""
        try:
            head, *steps = lzma.decompress(file.read_bytes()).splitlines()
            return cls(Head.model_validate_json(head), tuple(map(Step.model_validate_json, steps)))
        except FileNotFoundError:
            where = f"{file}: there is no recording of this project"
            raise Refusal(
                where, "not_found", "make one of a finished run: python -m orchestrator record RUN DIR"
            ) from None
        except (lzma.LZMAError, ValidationError, ValueError) as wrong:
            raise Refusal(f"{file} is no recording: {str(wrong).partition(chr(10))[0]}", "config") from wrong

    def check(self, digests: Mapping[str, str]) -> None:
        """Raises `LockDiffers` when it was made under another lock than that of these digests."""
        here = judged_by(digests)
        if other := sorted(
            name for name in here.keys() | self.head.digests if here.get(name) != self.head.digests.get(name)
        ):
            raise LockDiffers(
                f"the recording of {self.head.run} was made under another lock: {', '.join(other)} differ from this "
                "project's, so its changes would be judged by something else; record a run of the project as it is"
            )


def judged_by(digests: Mapping[str, str]) -> dict[str, str]:
    """What of a lock decides how a recorded change is built and judged."""
    return {name: digest for name, digest in digests.items() if name.partition(".")[0] in JUDGING}


async def record(
    run: Path, project: str, digests: Mapping[str, str], secret: bytes, played: Recording | None, landings: int = 0
) -> Recording:
    """The recording of a run that no process works on, or only of what came before and with so many of its landings;
    `played` is the one that it replayed."""
    with reading(run / "state.db") as db:
        (name,) = db.execute("SELECT name FROM run").fetchone()
        main = [row[0] for row in db.execute("SELECT commit_id FROM scorecard ORDER BY id LIMIT 1")]
        main += [row[0] for row in db.execute("SELECT new FROM landing WHERE done ORDER BY number")]
        until = math.inf
        if 0 < landings < len(main) - 1:
            landed = "SELECT seq FROM journal WHERE kind = 'landed' ORDER BY seq LIMIT 1 OFFSET ?"
            (until,) = db.execute(landed, (landings - 1,)).fetchone()
        steps = _steps(db, main, until)
        main = main[: landings + 1] if landings else main
    if played:
        name, steps = played.head.run, list(_again(steps, played.steps))
    quotes, git = Quotes(run / "team/cases"), Git(run / "repo.git")
    steps = [step.model_copy(update={"arguments": quotes.folded(step.arguments)}) for step in steps]
    saved = await _checkpoints(git)
    steps = [await _with_left(git, step, main, saved) for step in steps]
    drawn = secret[:JUDGED].hex()
    head = Head(run=name, project=project, digests=judged_by(digests), secret=drawn, main=tuple(main))
    return Recording(head, tuple(steps))


Placed = tuple[tuple[int, int], Step]


def _steps(db: sqlite3.Connection, main: list[str], until: float) -> list[Step]:
    """Everything that happened up to an entry of the journal, in the order in which it took effect: by the journal,
    where a call in a room, and one that only looks, has its place at its beginning."""
    told, handed_in = _told(db, main)
    told = [(place, step) for place, step in told if place <= (until, 0)]
    ended = {step.id for _, step in told if step.do == "change"}
    asked = [(place, step) for place, step in _asked(db, handed_in, ended) if place <= (until, 0)]
    return [step for _, step in sorted((*told, *asked), key=lambda pair: pair[0])]


def _told(db: sqlite3.Connection, main: list[str]) -> tuple[list[Placed], dict[str, int]]:
    """What the journal tells of sessions, changes and judgements, and where each change was handed in."""
    placed: list[Placed] = []
    handed_in, landed, staged = dict[str, int](), 0, set[str]()
    judging: Placed | None = None
    kinds = "('session-started', 'session-ended', 'claimed', 'submitted', 'staged', 'parked', 'judging', 'landed', "
    journal = db.execute(f"SELECT * FROM journal WHERE kind IN {kinds}'bounced', 'withdrawn') ORDER BY seq").fetchall()
    for row, following in zip(journal, [*journal[1:], None], strict=True):
        data, kind = json.loads(row["data"]), row["kind"]
        session, change = data.get("session", ""), data.get("change", "")
        facts: dict[str, Any] = {"at": row["at"], "main": landed}
        match kind:
            case "session-started":
                is_open, base = db.execute("SELECT open_seat, base FROM session WHERE id = ?", (session,)).fetchone()
                # With it, and not by a call of the session's that came next.
                given = following and (following["kind"], following["at"]) == ("claimed", row["at"])
                task = json.loads(following["data"]) if given else {}
                facts |= {"main": main.index(base), "role": data["role"], "open": bool(is_open)}
                step = Step(
                    do="start", id=session, task=task.get("task", "") * (task.get("session") == session), **facts
                )
            case "session-ended":
                step = Step(do="end", id=session, kind=data["end"], **facts)
            case "submitted":
                handed_in[change] = row["seq"]
                if session:
                    continue
                call, at = db.execute("SELECT call, submitted FROM change WHERE id = ?", (change,)).fetchone()
                step = Step(do="revert", id=call.removeprefix("revert of "), **facts | {"at": at})
            case "staged" | "parked" if change not in staged:
                staged.add(change)
                step = Step(do="stage", id=change, **facts)
            case "judging":
                judging = (row["seq"], 0), Step(do="judge", id=" ".join(data["changes"]), **facts)
                continue
            case "landed" | "bounced" | "withdrawn":
                if judging and change in judging[1].id.split():  # none that a kill cut, or that said nothing
                    placed.append(judging)
                    judging = None
                landed += kind == "landed"
                step = Step(do="change", id=change, kind=kind, **facts | {"main": landed})
            case _:
                continue
        placed.append(((row["seq"], 0), step))
    return placed, handed_in


def _asked(db: sqlite3.Connection, handed_in: Mapping[str, int], ended: Set[str]) -> Iterator[Placed]:
    """The calls; what a submission came to is known where its change is among those that have `ended`."""
    submitted = {row["call"]: row for row in db.execute("SELECT id, call, submitted FROM change")}
    calls = db.execute(
        "SELECT call.*, turn.at FROM call JOIN turn ON turn.session = call.session AND turn.number = call.turn "
        "WHERE state = 'done' OR id IN (SELECT call FROM change) ORDER BY call.session, call.turn, call.number"
    )
    new_rooms = "SELECT session, at FROM message WHERE sender = 'run' AND text = ? UNION ALL "
    new_rooms += "SELECT data ->> 'session', at FROM journal WHERE kind = 'room-lost'"
    rests = db.execute(new_rooms, (f"[run] {sessions.RESTED}",)).fetchall()
    for session, rows in groupby(calls, lambda row: str(row["session"])):
        stamp, before = "", ""
        for number, (_, of_turn) in enumerate(groupby(rows, lambda row: row["turn"]), start=1):
            for row in of_turn:
                seen, change = row["stamp"], submitted.get(row["id"])
                looks = row["began"] is not None and row["name"] in (*IN_ROOM, "tasks", "verify")
                at = handed_in[change["id"]] if change else row["began"] if looks else row["ended"]
                when = change["submitted"] if change else row["started"] or row["at"]
                moved = row["name"] in IN_ROOM and row["name"] != "view" and looks and (not seen or seen != stamp)
                kind = UNANSWERED if change and change["id"] not in ended else row["kind"]
                asked = {"tool": row["name"], "arguments": json.loads(row["arguments"]), "kind": kind}
                left = {"tree": row["tree"], "moved": moved, "main": row["main"] or 0, "at": when}
                began = row["started"] or before
                left["rested"] = any(one == session and before < at <= began for one, at in rests)
                before = began
                step = Step(do="call", id=f"{session}.{number}.{row['number']}", **asked, **left)
                yield (at, int(looks)), step
                stamp = seen or stamp


def _again(found: Iterable[Step], recorded: Iterable[Step]) -> Iterator[Step]:
    """What happened of a recording, in its order and with its times, as it came out; of what was not run, as it was."""
    here = {(step.do, step.id): step for step in found}
    for step in recorded:
        now = here.get((step.do, step.id))
        if now is None:
            continue
        chance = step.arguments.get("background") and now.kind == step.kind  # how far the job had come
        tree = step.tree if chance else now.tree or step.tree
        came = {"kind": now.kind, "tree": tree, "left": step.left if tree == step.tree else ()}
        yield step.model_copy(update={"arguments": now.arguments, "task": now.task, **came})


async def _checkpoints(git: Git) -> dict[str, list[tuple[str, str]]]:
    """By tree: the checkpoints that were ever made, each with the commit that HEAD was."""
    listed = await git.text("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    commits = "".join(f"{line[7:]}\n" for line in listed.splitlines() if line.startswith("commit "))
    saved: dict[str, list[tuple[str, str]]] = {}
    facts = await git.text("log", "--no-walk=unsorted", "--stdin", "--format=%s%x00%T %H %P", stdin=commits.encode())
    for subject, _, ids in (line.rpartition("\0") for line in facts.splitlines()):
        tree, commit, *parents = ids.split(" ")
        if subject == CHECKPOINT.kind and len(parents) == 2:
            saved.setdefault(tree, []).append((commit, parents[0]))
    return saved


async def _with_left(git: Git, step: Step, main: list[str], saved: Mapping[str, list[tuple[str, str]]]) -> Step:
    """A step that was cut short, with what it left. Of several checkpoints with the same files that on main is taken:
    the others' commits came later."""
    cut = step.kind in ("interrupted", "timeout", "killed") and step.moved
    if step.left or not cut or step.tree not in saved:
        return step  # what was never seen here a replay does again, and says if it comes out otherwise
    commit, _ = min(saved[step.tree], key=lambda pair: (pair[1] not in main, pair))
    _, pack = await git.run(
        "pack-objects", "-q", "--revs", "--stdout", "--threads=1", stdin=f"{commit}\n^{main[step.main]}\n".encode()
    )
    return step.model_copy(update={"left": (commit, base64.b64encode(pack).decode())})


class Quotes:
    """References to the lines of cases' sources, in the place of the lines."""

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self._lines = {f"{path.relative_to(folder)}": path.read_text("utf-8", "replace").split("\n") for path in files}
        self._places: dict[tuple[str, ...], tuple[str, int]] = {}
        for name, lines in self._lines.items():
            for number in range(len(lines) - WINDOW + 1):
                window = tuple(lines[number : number + WINDOW])
                if sum(len(line.strip()) for line in window) >= WEIGHT:
                    self._places.setdefault(window, (name, number))

    def folded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._fold(value) if isinstance(value, str) else value for name, value in arguments.items()}

    def unfolded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._unfold(value) if isinstance(value, str) else value for name, value in arguments.items()}

    def _fold(self, text: str) -> str:
        lines, made, at = text.split("\n"), list[str](), 0
        while at < len(lines):
            place = self._places.get(tuple(lines[at : at + WINDOW]))
            if place is None:
                made.append(lines[at])
                at += 1
                continue
            name, first = place
            same = 0
            for ours, theirs in zip(lines[at:], self._lines[name][first:], strict=False):
                if ours != theirs:
                    break
                same += 1
            made.append(f"{REFERENCE}{first}:{same}:{name}")
            at += same
        return "\n".join(made)

    def _unfold(self, text: str) -> str:
        """Raises `Refusal` for a reference to what is not there."""
        made = []
        for line in text.split("\n"):
            if line.startswith(REFERENCE):
                first, count, name = line[1:].split(":", 2)
                found = self._lines.get(name, [])[int(first) : int(first) + int(count)]
                if len(found) != int(count):
                    raise Refusal(f"the recording quotes {name} from line {int(first) + 1} on, which is not there")
                made += found
            else:
                made.append(line)
        return "\n".join(made)
