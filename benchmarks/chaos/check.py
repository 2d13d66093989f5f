"""`python check.py RUN HOME EVIDENCE`: what a killed and resumed run lost, did twice, let out or left behind.

It shares no code with what it judges: the standard library, git's plumbing commands, /proc, and SQL over the published
`state.db`, read only. What it believes is, in this order: git's objects; the wire server's own log; the witness file
that seats write from their rooms; the driver's book of kills; and the run's tables where they speak about themselves.

    evidence/wire.jsonl      requests as they came, and what became of each
    evidence/witness.jsonl   what commands in rooms said, with the time at which it was heard
    evidence/driver.jsonl    kills and resumes
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

Json = dict[str, Any]
KINDS = (
    "lost_changes",
    "double_merges",
    "double_claims",
    "unaccounted_requests",
    "paid_twice",
    "red_main_commits",
    "held_out_leaks",
    "orphans",
)
WEDGED_S = 180.0  # without a sign of life, while a session works and its run is up
SETTLING_S = 10.0  # what is being ended may take so long to be gone
SIGNS = ("call", "session-ended", "claimed", "submitted", "released", "noted", "waiting")
TERMINAL = ("landed", "bounced", "withdrawn")
ENDS = ("task-closed", "released", "task-dropped")  # of a claim, in the journal


class Evidence:
    """One run, as a stranger finds it."""

    def __init__(self, run: Path, home: Path, evidence: Path) -> None:
        self.run, self.home, self.evidence = run, home, evidence

    def lines(self, name: str) -> list[Json]:
        """A JSON lines file; its last line may have been cut by a kill."""
        found = []
        file = self.evidence / name
        for line in file.read_text().splitlines() if file.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    @cached_property
    def wire(self) -> list[Json]:
        """Each request that came, with its state: complete, cut, refused, or arrived when nobody knows what became of
        it; `at` when it came, `done` when it was over. A server that was killed counts its requests from 1 again."""
        open_now: dict[str, Json] = {}
        found: list[Json] = []
        for row in self.lines("wire.jsonl"):
            if row["state"] == "arrived":
                open_now[row["id"]] = row | {"done": row["at"]}
                found.append(open_now[row["id"]])
            elif row["id"] in open_now:
                open_now[row["id"]] |= {"state": row["state"], "fault": row["fault"], "done": row["at"]}
        return found

    @cached_property
    def book(self) -> list[Json]:
        return self.lines("driver.jsonl")

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(f"file:{self.run / 'state.db'}?mode=ro", uri=True, timeout=30)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(sql, values).fetchall()

    def git(self, *words: str, of: str = "repo.git", stdin: bytes = b"") -> str:
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "--git-dir", str(self.run / of), *words]
        return subprocess.run(command, check=True, capture_output=True, env=env, input=stdin).stdout.decode(
            errors="replace"
        )

    @cached_property
    def main(self) -> list[str]:
        """Main's commits, the seed first."""
        return self.git("rev-list", "--reverse", "--first-parent", "refs/heads/main").split()

    @cached_property
    def trailers(self) -> list[str]:
        """The change that each commit of main but the seed is said to be."""
        text = self.git(
            "log", "--reverse", "--first-parent", "--format=%(trailers:key=Change,valueonly,separator=%x2C)", "main"
        )
        return text.split("\n")[1 : len(self.main)]

    def files(self, commit: str) -> dict[str, str]:
        """Blob by path."""
        listed = self.git("ls-tree", "-r", "--full-tree", commit).splitlines()
        return {line.split("\t", 1)[1]: line.split()[2] for line in listed}

    def changed(self, old: str, new: str) -> dict[str, str]:
        """What a commit changes: blob by path, zeros for what it takes away."""
        listed = self.git("diff-tree", "-r", "--no-renames", old, new).splitlines()
        return {line.split("\t", 1)[1]: line.split()[3] for line in listed}


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# Changes


def lost_changes(found: Evidence) -> Iterator[str]:
    """Submitted, and not come to one end; or landed by word and not in main; or in main and gone again."""
    at = dict(zip(found.trailers, found.main[1:], strict=True))
    parent = dict(zip(found.main[1:], found.main, strict=False))
    listed = found.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/changes").split()
    refs: dict[str, str] = dict(zip(listed[::2], listed[1::2], strict=True))
    for row in found.rows("SELECT id, state, number, base, commit_id, landed_as FROM change"):
        if row["state"] not in TERMINAL:
            yield f"{row['id']} is still {row['state']}"
        if refs.get(f"refs/changes/{row['number']}") != row["commit_id"]:
            yield f"{row['id']}: its ref does not hold what was submitted"
            continue
        if row["state"] != "landed":
            continue
        if (commit := at.get(row["id"])) != row["landed_as"] or commit is None:
            yield f"{row['id']} landed, but main has no commit of it"
            continue
        # What main had already, word for word, is no difference of the landed commit's.
        has, new, base = found.files(commit), found.changed(parent[commit], commit), found.files(row["base"])
        wanted = found.changed(row["base"], row["commit_id"]).items()
        other = [path for path, blob in wanted if has.get(path, "0" * 40) != blob]
        if missing := sorted(path for path in other if path not in new or path not in base):  # else it was merged
            yield f"{row['id']} landed without {missing}"
    landed = {row["session"] for row in found.rows("SELECT session FROM change WHERE state = 'landed'")}
    for row in found.rows("SELECT id FROM session WHERE end = 'landed'"):
        if row["id"] not in landed:
            yield f"{row['id']} was told that it landed, and no change of it did"
    numbers = [row["number"] for row in found.rows("SELECT number FROM change")]
    for ref in refs:
        number = int(ref.rpartition("/")[2])
        if number not in numbers and number < max(numbers, default=0):
            yield f"{ref} was submitted, and the run knows nothing of it"
    tip = found.files(found.main[-1])
    for row in found.rows("SELECT id, title, state FROM task WHERE title LIKE 'part %' AND state = 'closed'"):
        if f"parts/{row['title'].split()[1]}" not in tip:
            yield f"{row['id']} is closed, and main does not have {row['title']}"


def double_merges(found: Evidence) -> Iterator[str]:
    for change, often in Counter(found.trailers).items():
        if often > 1:
            yield f"{change} is on main {often} times"
    added = found.git(
        "log", "--first-parent", "--diff-filter=A", "--no-renames", "--name-only", "--format=", "main", "--", "parts"
    )
    for path, often in Counter(added.split()).items():
        if often > 1:
            yield f"{path} was added to main {often} times"
    for row in found.rows("SELECT task, count(*) AS n FROM change WHERE state = 'landed' GROUP BY task HAVING n > 1"):
        yield f"{row['n']} changes for {row['task']} landed"


def double_claims(found: Evidence) -> Iterator[str]:
    """By the witness: two workspaces take turns at one task. By the journal: claimed before an earlier claim ended."""
    heard: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in found.lines("witness.jsonl"):
        if len(line["said"]) == 4:
            seat, task, _, mark = line["said"]
            heard[task].append((seat, mark))
    for task, who in heard.items():
        turns = [one for one, _ in itertools.groupby(who)]
        for one, often in Counter(turns).items():
            if often > 1:
                yield f"{task}: {one[0]} goes on after somebody else has worked on it"
    held: dict[str, str] = {}
    kinds = ("claimed", *ENDS)
    for row in found.rows("SELECT kind, data FROM journal WHERE kind IN (?, ?, ?, ?) ORDER BY seq", *kinds):
        data = json.loads(row["data"])
        if row["kind"] in ENDS:
            held.pop(data["task"], None)
        elif held.setdefault(data["task"], data["session"]) != data["session"]:
            yield f"{data['task']} is claimed by {data['session']} while {held[data['task']]} has it"
        else:
            others = [task for task, session in held.items() if session == data["session"] and task != data["task"]]
            yield from (f"{data['session']} claims {data['task']} while it has {task}" for task in others)


# Requests


def unaccounted_requests(found: Evidence) -> Iterator[str]:
    """What reached a vendor's model, and no attempt of the ledger that may have cost something stands for it."""
    sql = "SELECT session, turn, state, count(*) AS n FROM attempt GROUP BY 1, 2, 3"
    booked: Counter[tuple[str, int]] = Counter()
    for row in found.rows(sql):
        if row["state"] == "reserved":
            yield f"{row['session']} turn {row['turn']}: {row['n']} attempts were never ended"
        if row["state"] in ("settled", "in-doubt"):
            booked[row["session"], row["turn"]] += row["n"]
    asked = Counter((row["session"], row["turn"]) for row in found.wire if row["state"] in ("complete", "cut"))
    for (session, turn), often in asked.items():
        if often > booked[session, turn]:
            yield f"{session} turn {turn}: billed {often} times, in the ledger {booked[session, turn]} times"


def paid_twice(found: Evidence) -> Iterator[str]:
    """A reply that was stored is asked for again; or a complete one is, and nothing died in between that could have
    kept it from being stored."""
    for row in found.rows(
        "SELECT session, turn, count(*) AS n FROM attempt WHERE state = 'settled' GROUP BY 1, 2 HAVING n > 1"
    ):
        yield f"{row['session']} turn {row['turn']}: {row['n']} replies are settled"
    stored = {
        (row["session"], row["number"]): moment(row["at"]) for row in found.rows("SELECT session, number, at FROM turn")
    }
    deaths = [row["at"] for row in found.book if row["what"] in ("killed", "broke") or row.get("kind") == "wire"]
    answered: dict[tuple[str, int], Json] = {}
    for asked in found.wire:
        key = (asked["session"], asked["turn"])
        if stored.get(key, asked["at"]) < asked["at"]:
            yield f"{key[0]} turn {key[1]} is asked for again after it was stored"
        elif (last := answered.get(key)) and not any(last["at"] <= death <= asked["at"] + 1 for death in deaths):
            yield f"{key[0]} turn {key[1]} is asked for again, and nothing had died"
        if asked["state"] == "complete":
            answered[key] = asked


# Main, and what must not be seen


def red_main_commits(found: Evidence) -> Iterator[str]:
    """Where main pointed at a commit that loses a shown case, or whose scorecard is not stored."""
    sql = "SELECT l.new, s.commit_id, s.built, s.void FROM landing l JOIN scorecard s ON s.id = l.scorecard"
    cards = {row["new"]: row for row in found.rows(sql)}
    shown = {file.stem for file in (found.run / "team/cases/parts").glob("*.txt")}
    passed: set[str] = set()
    for number, commit in enumerate(found.main):
        card, above = cards.get(commit), found.main[number:]
        if number and (card is None or card["commit_id"] not in above or not card["built"] or card["void"]):
            yield f"{commit} is on main without a scorecard"
        if number and card is not None and card["commit_id"] != commit and len(above) > 1:
            continue  # it landed below one that was judged: main never pointed at it
        tree = found.files(commit)
        names = [path.removeprefix("parts/") for path in tree if path.startswith("parts/")]
        blobs = {name: hashlib.sha1(f"blob {len(name) + 1}\0{name}\n".encode()).hexdigest() for name in names}
        bad = {name.rpartition(".")[2] for name in names if blobs[name] != tree[f"parts/{name}"]}
        now = {case for case in shown if case not in bad and case != "whole"}
        if lost := passed - now:
            yield f"{commit} loses {sorted(lost)}"
        passed |= now
    if found.git("rev-parse", "refs/heads/main", of="public.git") != found.git("rev-parse", "refs/heads/main"):
        yield "public.git has another main"


def held_out_leaks(found: Evidence) -> Iterator[str]:
    """The secret of a held-out case, or its id, where a seat could see it."""
    suites = found.run / "frozen/project/suites/parts"
    hidden = [file for file in suites.glob("*.txt") if not (found.run / "team/cases/parts" / file.name).exists()]
    words = [file.read_text().split()[2] for file in hidden] + [f"parts/{file.stem}.txt" for file in hidden]
    if not hidden:
        yield "no case is held out, so that nothing is known of leaks"
    for place, text in _seen(found):
        yield from (f"{word} is in {place}" for word in words if word in text)


def _seen(found: Evidence) -> Iterator[tuple[str, str]]:
    """Everything that reached a seat or lay open to it."""
    yield "a request", "\n".join(row.get("heard", "") for row in found.wire)
    yield "what a room said", json.dumps(found.lines("witness.jsonl"))
    yield "public.git", found.git("cat-file", "--batch", "--batch-all-objects", of="public.git")
    told = "SELECT opening FROM session UNION SELECT system FROM session UNION SELECT result FROM call"
    kept = found.rows(f"SELECT body FROM payload WHERE hash IN ({told})")
    yield "what sessions were told", "\n".join(zlib.decompress(row["body"]).decode(errors="replace") for row in kept)
    yield "messages", "\n".join(row["text"] for row in found.rows("SELECT text FROM message"))
    yield (
        "the board",
        json.dumps([list(row) for row in found.rows("SELECT title, why, cases, reason, signature FROM task")]),
    )
    for folder in ("team", "current_tasks", "agents"):
        for file in (found.run / folder).rglob("*"):
            if file.is_file():
                yield str(file.relative_to(found.run)), file.read_text(errors="replace")


# What is left


def orphans(found: Evidence) -> list[str]:
    """What still lives or lies there of a run that has ended."""
    until = time.monotonic() + SETTLING_S
    while (left := [*_left(found)]) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _left(found: Evidence) -> Iterator[str]:
    yard, rooms = found.home.parent, found.home / "rooms"
    tag = hashlib.sha256(str(rooms).encode()).hexdigest()[:12]
    parents = {os.getpid(), os.getppid()}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, env = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            theirs = (
                f"ORCHESTRATOR_HOME={found.home}".encode() in env
                or str(yard).encode() in words
                or f"\0{tag}.".encode() in words
            )
            if theirs and int(entry.name) not in parents:
                yield f"process {entry.name}: {words.replace(bytes(1), b' ').decode(errors='replace')[:150]}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{yard}/"):
            yield f"mount {line.split()[4]}"
    for place in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        with suppress(OSError):
            groups = os.listdir(place / "orchestrator-rooms")  # noqa: PTH208  # others' groups come and go meanwhile
            yield from (f"cgroup {place.name}/{name}" for name in groups if name.startswith(f"{tag}."))
    temporary = [
        *(yard / "tmp").glob("*"),
        *(found.run / "quarantine").glob("*"),
        *found.home.glob("judges/*/*/*"),
        *rooms.glob("*/*"),
    ]
    for repo in ("repo.git", "public.git"):
        temporary += [*(found.run / repo).rglob("*.lock"), *(found.run / repo).glob("objects/**/tmp_*")]
    temporary += [file for file in found.run.glob("*.new") if file.is_file()]
    temporary += [*found.home.glob("bwrap.new.*"), *found.home.glob("workspaces/*/*.disk.new")]
    yield from (f"temporary {path}" for path in temporary)


# How soon, and who is stuck


def _signs(found: Evidence) -> dict[str, list[float]]:
    """When each seat was seen at work, by what the run wrote down, the wire, the witness, and the driver."""
    signs: dict[str, list[float]] = defaultdict(list)
    marks = ", ".join("?" * len(SIGNS))
    for row in found.rows(f"SELECT seat, at FROM journal WHERE kind IN ({marks})", *SIGNS):
        signs[row["seat"]].append(moment(row["at"]))
    for row in found.rows(
        "SELECT session, at FROM attempt UNION ALL SELECT session, started FROM call WHERE started > ''"
    ):
        signs[row["session"].rpartition("/")[0]].append(moment(row["at"]))
    for asked in found.wire:
        signs[asked["session"].rpartition("/")[0]].append(asked["at"])
    for line in found.lines("witness.jsonl"):
        if line["said"]:
            signs[line["said"][0]].append(line["at"])
    for seen in found.book:
        for seat in seen.get("seats", ()):
            signs[seat].append(seen["at"])
    return {seat: sorted(times) for seat, times in signs.items()}


def recoveries(found: Evidence) -> list[float]:
    """Seconds from each death to the last seat working again; deaths that were followed by another before that have no
    figure."""
    signs, deaths = _signs(found), [row for row in found.book if row["what"] == "killed"]
    ends = [row["at"] for row in deaths[1:]] + [next((row["at"] for row in found.book if row["what"] == "over"), 0.0)]
    took = []
    for death, end in zip(deaths, ends, strict=True):
        seats = {session.rpartition("/")[0] for session in death["active"]}
        resumed = next((row["at"] for row in found.book if row["what"] == "resumed" and row["at"] >= death["at"]), end)
        back = [next((sign for sign in signs.get(seat, ()) if resumed <= sign < end), None) for seat in seats]
        if seats and None not in back:
            took.append(max(at for at in back if at is not None) - death["at"])
    return took


def wedged_seats(found: Evidence) -> Iterator[str]:
    """Seats that showed no sign of life for long though they did not wait for a verdict; a gate that had changes and
    did nothing; and every seat of a run that came to no end. A kill begins the time anew."""
    over: Json = next((row for row in found.book if row["what"] == "over"), {"state": "never over", "at": time.time()})
    sessions = found.rows("SELECT id, seat, started, ended, state FROM session")
    if over["state"] != "ended":
        live = [row["seat"] for row in sessions if row["state"] != "ended"]
        yield from (f"{seat}: the run is {over['state']}" for seat in live or ["the run"])
        return
    deaths, signs = [row["at"] for row in found.book if row["what"] == "killed"], _signs(found)
    verdicts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in found.rows("SELECT seat, submitted, ended FROM change WHERE ended <> ''"):
        verdicts[row["seat"]].append((moment(row["submitted"]), moment(row["ended"])))
    for row in sessions:
        began, ended = moment(row["started"]), moment(row["ended"]) if row["ended"] else over["at"]
        longest = _longest(began, ended, [*signs.get(row["seat"], ()), *deaths], verdicts[row["seat"]])
        if longest > WEDGED_S:
            yield f"{row['id']} showed no sign of life for {longest:.0f} s"
    kinds = ("staged", "parked", "judging", "judged", "voided", "landed", "bounced", "submitted", "heldout-judged")
    marks = ", ".join("?" * len(kinds))
    done = [moment(row["at"]) for row in found.rows(f"SELECT at FROM journal WHERE kind IN ({marks})", *kinds)]
    for began, ended in itertools.chain(*verdicts.values()):
        longest = _longest(began, ended, [*done, *deaths])
        if longest > WEDGED_S:
            yield f"the gate did nothing for {longest:.0f} s while a change waited"


def _longest(began: float, ended: float, times: Sequence[float], waits: Sequence[tuple[float, float]] = ()) -> float:
    """The longest time between two of these, and the ends, in which nothing was waited for."""
    marks = sorted({began, ended, *(at for at in times if began < at < ended)})
    gaps = itertools.pairwise(sorted({*marks, *(at for wait in waits for at in wait if began < at < ended)}))
    return max(
        (later - earlier for earlier, later in gaps if not any(a <= earlier and later <= b for a, b in waits)),
        default=0.0,
    )


def checked(found: Evidence) -> Json:
    """The counts of one run, with words for each violation."""
    checks = (
        lost_changes,
        double_merges,
        double_claims,
        unaccounted_requests,
        paid_twice,
        red_main_commits,
        held_out_leaks,
    )
    words = {check.__name__: list(check(found)) for check in checks} | {"orphans": orphans(found)}
    wedged = list(wedged_seats(found))
    deaths = sum(row["what"] in ("killed", "struck") for row in found.book)
    return {
        **{kind: len(words[kind]) for kind in KINDS},
        "violations": sum(map(len, words.values())),
        "wedged_seats": len(wedged),
        "kills": deaths,
        "recoveries": recoveries(found),
        "landed": len(found.main) - 1,
        "requests": len(found.wire),
        "words": [f"{kind}: {word}" for kind, all_ in (words | {"wedged_seats": wedged}).items() for word in all_],
    }


def summed(runs: Sequence[Json]) -> Json:
    """Several runs' counts as the one object that is published."""
    total: Json = {
        key: sum(run[key] for run in runs)
        for key in (*KINDS, "violations", "wedged_seats", "kills", "landed", "requests")
    }
    took = sorted(seconds for run in runs for seconds in run["recoveries"])
    total["recovery_s"] = {
        "p50": _part(took, 0.5),
        "p95": _part(took, 0.95),
        "max": _part(took, 1.0),
        "measured": len(took),
    }
    return total | {"words": [word for run in runs for word in run["words"]]}


def _part(ordered: Sequence[float], share: float) -> float | None:
    """The value below which that share of the others lies; None of nothing."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def main(argv: Iterable[str]) -> None:
    sys.stdout.write(json.dumps(checked(Evidence(*map(Path, argv)))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
