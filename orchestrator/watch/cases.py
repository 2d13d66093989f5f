"""The history of cases on main: when one first passed, who broke it and who mended it, read from the matrix.

A case is judged on some commits of main only. What lies between two judgements that agree is taken to be the same;
where it turned between two, all changes that landed between them are named. Held-out cases are not in the matrix.
"""

import difflib
import sqlite3
from typing import Final

from orchestrator.control import Refusal
from orchestrator.records import Change
from orchestrator.store import matrix, rows
from orchestrator.watch import queries
from orchestrator.watch.queries import SQL
from orchestrator.watch.render import Answer, clock, lines, moment, plural, table, visible
from verifiers.scorecard import Outcome

MOST: Final = 1000  # regressions shown
SAYS: Final = {
    "pass": "passes",
    "fail": "fails",
    "timeout": "times out",
    "skip": "is skipped",
    "missing": "is missing",
    "error": "could not be judged",
}


def turns(db: sqlite3.Connection, case: str) -> list[Answer]:
    """Where a case turned, oldest first. `change` and `session` are known when one change alone can have done it, else
    `among` names all that can; both are empty for the seed, and where nothing earlier was judged."""
    found = queries.rows(db, SQL["case_turns"], case=case)
    for turn in found:
        turn["among"] = (turn["among"] or "").split()
        turn["outcome"], turn["was"] = (Outcome(turn[name]).name.lower() for name in ("outcome", "was"))
        done = rows.get(db, Change, turn["among"][0]) if len(turn["among"]) == 1 else None
        turn["change"], turn["session"] = (done.id, done.session) if done else (None, None)
        turn["summary"] = visible(done.summary.partition("\n")[0], 80) if done else ""
    return found


def blame(db: sqlite3.Connection, case: str) -> Answer:
    """When a case first passed, who broke it, who is on it. Raises `Refusal` when no shown case has this name."""
    matrix.complete(db)
    if db.execute("SELECT 1 FROM shown_case WHERE name = ?", (case,)).fetchone() is None:
        raise _unknown(db, case)
    history, (now,) = turns(db, case), queries.rows(db, SQL["case_now"], case=case)
    last = history[-1] if history else {"outcome": "missing", "line": ""}
    return {"case": visible(case), "now": last["outcome"], "line": last["line"], "history": history, **now}


def cases(db: sqlite3.Connection, pattern: str = "", failing: bool = False) -> Answer:
    """Shown cases by id or pattern (all without one), as they are on main. Raises `Refusal` when there is none."""
    matrix.complete(db)
    found = queries.rows(db, SQL["cases"], pattern=pattern, failing=failing)
    if not found:
        raise _unknown(db, pattern or "*", "failing " * failing)
    return {"rows": [row | {"outcome": Outcome(row["outcome"]).name.lower()} for row in found]}


def regressions(db: sqlite3.Connection) -> Answer:
    """Each time that a case stopped passing on main, the newest first: by whom, mended by whom or who is on it."""
    matrix.complete(db)
    lost = db.execute(SQL["losses"], {"most": MOST}).fetchall()
    histories, found = {case: turns(db, case) for case, _, _ in lost}, []
    for case, ordinal, _ in lost:
        (turn,) = (turn for turn in histories[case] if turn["ordinal"] == ordinal)
        later = (one for one in histories[case] if one["ordinal"] > ordinal and one["outcome"] == "pass")
        mended = next(later, None)
        on_it: Answer = {} if mended else queries.rows(db, SQL["case_now"], case=case)[0]
        found.append({"case": visible(case), **turn, "mended": mended, "task": on_it.get("task")})
    return {"total": lost[0]["total"] if lost else 0, "rows": found}


def _unknown(db: sqlite3.Connection, case: str, kind: str = "") -> Refusal:
    names = [name for (name,) in db.execute("SELECT name FROM shown_case")]
    close = "".join(f"; did you mean {name}?" for name in difflib.get_close_matches(case, names, n=1))
    return Refusal(f"this run shows no {kind}case {case!r}{close}", "not_found", "all of them: cases")


def blame_words(answer: Answer) -> str:
    since = f", {plural(answer['unjudged'], 'landing')} ago" if answer["unjudged"] else ""
    head = f"{answer['case']} {SAYS[answer['now']]} on main {answer['commit'][:7]}{since}"
    told, passed = [], False
    for turn in answer["history"]:
        told.append(f"{clock(turn['at'])}  {_what(turn, passed):<13} {_whom(turn)}")
        told[-1] += f"  {turn['summary']}" * bool(turn["summary"]) + f"  {turn['line']}" * bool(turn["line"])
        if turn["found"]:
            told.append(f"{clock(turn['found'])}  {'found':<13} judged on main after landing")
        passed |= turn["outcome"] == "pass"
    if answer["now"] not in ("pass", "skip"):
        told.append(f"{'':8}  {'on it':<13} {_on_it(answer)}")
    return "\n".join([head, *(f"  {line}" for line in told)])


def cases_words(answer: Answer) -> str:
    return table([row | {"since": moment(row["since"])} for row in answer["rows"]])


def regressions_words(answer: Answer) -> str:
    shown = []
    for row in answer["rows"]:
        mended = row["mended"]
        after = f"{clock(mended['at'])} {_whom(mended)}" if mended else row["task"] or "no, nobody is on it"
        facts = {"at": moment(row["at"]), "case": row["case"], "outcome": row["outcome"], "broken_by": _whom(row)}
        shown.append(facts | {"mended": after, "line": row["line"]})
    earlier = answer["total"] - len(shown)
    return lines(table(shown) or "no case stopped passing on main", {"earlier": f"{earlier} more" if earlier else ""})


def facts(db: sqlite3.Connection, case: str) -> Answer:
    """What `why` says of a case."""
    answer = blame(db, case)
    turned = [f"{clock(turn['at'])}  {turn['outcome']:<8} {_whom(turn)}" for turn in answer["history"]]
    return {"outcome": answer["now"], "reason": answer["line"], "turned": "\n".join(turned), "on it": _on_it(answer)}


def _on_it(answer: Answer) -> str:
    return f"{answer['task']}, {answer['owner'] or 'not claimed'}" if answer["task"] else "nobody"


def _what(turn: Answer, passed: bool) -> str:
    if turn["outcome"] == "pass":
        return "mended by" if passed else "first passed"
    return "broken by" if turn["was"] == "pass" else turn["outcome"]


def _whom(turn: Answer) -> str:
    if turn["change"]:
        return f"{turn['change']} {turn['session']}"
    if turn["among"]:
        first, *_, last = turn["among"]
        return f"one of {first} … {last}, judged together"
    return "the seed" if turn["ordinal"] == 0 else "judged for the first time"
