"""Scorecards as they are stored: what differs from the card before, for judgements of one project differ little.

A payload holds the card's build and, by case, entries: the outcome's letter and the reason, a measured value behind
them. `changes` are those that differ from the card of main whose payload `since` names (None: the case is gone); every
so often the `whole` stands beside them, and a chain of changes ends there. Seconds are kept as they are, in the order
of the cases: no two judgements agree in them, so each would be a change.
"""

import json
import sqlite3
from typing import Any, Final

from orchestrator.store.store import Tx, read_payload
from verifiers.scorecard import Build, Outcome, Scorecard, Verdict

Entry = str | list[Any]
"""`Frun: exit 134`, or that, a value and its unit in a list. What passes without a value is `P`."""
Entries = dict[str, Entry | None]

PASS: Final = Outcome.PASS
NEWEST: Final = """
    SELECT details FROM landing JOIN scorecard ON commit_id = new AND tier = ? AND cases = ''
    ORDER BY number DESC, scorecard.id DESC LIMIT 1"""
LINKS: Final = 50  # payloads of a chain at most: what reading a card costs besides its first one
CHANGED: Final = 0.25  # of a card's entries: above that a chain costs more to store than a card that begins a new one


def keep(tx: Tx, card: Scorecard) -> dict[str, str]:
    """Stores a card's payload and returns the columns of `scorecard` that say where it is."""
    entries, seconds = Entries(), list[str]()
    for verdict in map(card.verdicts.__getitem__, sorted(card.verdicts)):
        if verdict.outcome is PASS and verdict.value is None and not verdict.unit:
            entries[verdict.case] = "P"
        else:
            entries[verdict.case] = _entry(verdict)
            seconds.append(f"{verdict.seconds:.3f}")
    since, links, weight, before = "", 0, 0, dict[str, Entry]()
    if last := tx.one(NEWEST, card.tier):
        since = last["details"]
        newest, before = _chain(tx.db, since)
        links, weight = newest["links"] + 1, newest["weight"]
    changes: Entries = {case: entry for case, entry in entries.items() if before.get(case) != entry}
    changes |= dict.fromkeys(before.keys() - entries.keys())
    weight += len(changes)
    begins = not since or links > LINKS or weight > CHANGED * len(entries)
    kept = {"since": since, "changes": changes if since else {}, "whole": entries if begins else None}
    counted = {"links": 0, "weight": 0} if begins else {"links": links, "weight": weight}
    build = [card.build.seconds, card.build.reason, card.build.log_tail]
    details = json.dumps({"build": build, "seconds": " ".join(seconds), **kept, **counted})
    return {"cases": "", "outcomes": "", "details": tx.keep(details)}


def read_scorecard(db: sqlite3.Connection, row: sqlite3.Row) -> Scorecard:
    """The card of a row of `scorecard`, its cases in sorted order; one that passed without a value has no seconds."""
    if row["cases"]:
        return _read_first_form(db, row)
    payload, entries = _chain(db, row["details"])
    seconds, verdicts = iter(payload["seconds"].split()), {}
    for case, entry in sorted(entries.items()):
        said, *measured = entry if isinstance(entry, list) else (entry,)
        took = 0.0 if entry == "P" else float(next(seconds))
        verdicts[case] = Verdict(case, Outcome(said[0]), took, said[1:], *measured)
    return Scorecard(row["tree"], row["tier"], Build(bool(row["built"]), *payload["build"]), verdicts, row["void"])


def news(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[str, dict[str, str]]:
    """The payload of the card of main before this one, if any, and by case the letter and reason of what changed."""
    if row["cases"]:
        return "", {}
    payload = json.loads(read_payload(db, row["details"]))
    changed: Entries = payload["changes"]
    return payload["since"], {
        case: entry[0] if isinstance(entry, list) else entry or Outcome.MISSING for case, entry in changed.items()
    }


def _entry(verdict: Verdict) -> Entry:
    said = verdict.outcome + verdict.reason
    return [said, verdict.value, verdict.unit] if verdict.value is not None or verdict.unit else said


def _chain(db: sqlite3.Connection, digest: str) -> tuple[Any, dict[str, Entry]]:
    """A card's payload, and every entry of it."""
    payloads = [json.loads(read_payload(db, digest))]
    while payloads[-1]["whole"] is None:
        payloads.append(json.loads(read_payload(db, payloads[-1]["since"])))
    entries: Entries = payloads[-1]["whole"]
    for payload in payloads[-2::-1]:
        entries |= payload["changes"]
    return payloads[0], {case: entry for case, entry in entries.items() if entry is not None}


def _read_first_form(db: sqlite3.Connection, row: sqlite3.Row) -> Scorecard:
    """A card of schema 1: a string of outcomes in the order of a list of cases, and details by case."""
    cases = json.loads(read_payload(db, row["cases"]))
    details = json.loads(read_payload(db, row["details"]))
    seconds, reason, _, log_tail = details["build/"]
    verdicts = {
        case: Verdict(case, Outcome(letter), *details.get(case, ()))
        for case, letter in zip(cases, row["outcomes"], strict=True)
    }
    build = Build(bool(row["built"]), seconds, reason, log_tail)
    return Scorecard(row["tree"], row["tier"], build, verdicts, row["void"])
