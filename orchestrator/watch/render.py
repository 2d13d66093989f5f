"""Answers as text for people. Every word that an agent may have written has been made visible before it comes here."""

from __future__ import annotations

from collections import Counter

from orchestrator.watch.queries import Answer
from orchestrator.watch.text import clock, hours, moment, money, percent, plural, span, table, when

WAITING = {"queued": "queued", "parked": "parked", "staged": "staged", "judging": "being judged"}
TEAM = {"works": ("works", "work", ""), "waits": ("waits", "wait", " for "), "idle": ("idle", "idle", ": ")}
"""For each state of a seat: how one does it, how many do it, and what comes before the reason."""


def lines(head: str, labelled: Answer) -> str:
    """A first line, and under it each fact behind its label; further lines of a fact stand below the first."""
    body = []
    for label, said in labelled.items():
        first, *rest = [said] if isinstance(said, str) else said
        body += [f"  {label:<10} {first}", *(f"  {'':<10} {line}" for line in rest)]
    return "\n".join([head, *body])


def status(result: Answer) -> str:
    queue, run = Counter[str](result["queue"]), result["run"]
    if result["state"] == "dead":
        waiting = plural(sum(queue[state] for state in WAITING), "change")
        live = plural(result["sessions_live"], "session")
        kept = f"{queue['landed']} landed, {waiting} in the queue, {live} in mid-turn"
        if result["spent_usd"] is not None:
            kept += f", {money(result['spent_usd'])} settled, {money(result['reserved_usd'])} reserved for "
            kept += f"{plural(result['reserved'], 'request')} in flight"
        gone = f"NOT RUNNING since {clock(result['as_of'])}: its process is gone and nobody asked it to stop"
        return lines(f"{run}   {gone}", {"kept": kept, "next": f"python -m orchestrator resume {run}"})
    state, took = result["state"], hours(result["elapsed_s"])
    over = state in ("ended", "stopped")
    doing = f"after {took}: {result['reason']}" if over else f"{took}, as of {clock(result['as_of'])}"
    head = f"{run}   {state} {doing}".ljust(88) + ("healthy" if result["healthy"] else "NOT HEALTHY")
    waits = [f"{queue[state]} {word}" for state, word in WAITING.items() if queue[state]]
    if queue["judging"]:
        waits[-1] += f" for {span((when(result['as_of']) - when(result['judging_since'])).total_seconds())}"
    ended = ", ".join(f"{queue[state]} {state}" for state in ("landed", "bounced", "withdrawn"))
    facts = {
        "progress": suites(result["suites"]),
        "held out": suites(result["heldout"]) if result["heldout"] is not None else "",
        "money": spent(result),
        "team": _team(result["seats"]),
        "queue": f"{', '.join(waits) or 'empty'} · {ended}",
        "look at": " · ".join(one["text"] for one in result["attention"]),
    }
    return lines(head, {label: text for label, text in facts.items() if text})


def suites(counts: Answer) -> str:
    """`torture 2325/3843 (60.5 %, +141 in the last hour) · unit 212/212 (100.0 %)`."""
    return " · ".join(f"{name} {share(suite)}" for name, suite in counts.items()) or "nothing has been judged yet"


def share(suite: Answer) -> str:
    delta = f", {suite['delta_1h']:+d} in the last hour" if suite.get("delta_1h") else ""
    return f"{suite['passed']}/{suite['total']} ({percent(suite['passed'], suite['total'])}{delta})"


def spent(result: Answer) -> str:
    """`$641.20 of $2,000.00, $74.00 in the last hour`, or that nothing is metered."""
    words = "unmetered"
    if result["spent_usd"] is not None:
        limit = f" of {money(result['budget_usd'])}" if result["budget_usd"] else ""
        words = f"{money(result['spent_usd'])}{limit}, {money(result['burn_usd_h'])} in the last hour"
    if result["in_doubt"]:
        words += f" · {money(result['in_doubt_usd'])} of it in doubt"
    return words + (f" · {plural(result['unpriced'], 'request')} of unknown price" if result["unpriced"] else "")


def _team(seats: list[Answer]) -> str:
    """How many work, who waits for what, and why the others are idle."""
    groups = Counter((list(TEAM).index(seat["state"]), seat["state"], seat["why"]) for seat in seats)
    shown = []
    for (_, state, why), count in sorted(groups.items(), key=lambda group: (group[0][0], -group[1], group[0][2])):
        one, many, before = TEAM[state]
        shown.append(f"{count} {one if count == 1 else many}" + (before + why if why else ""))
    more = [f"{len(shown) - 5} other reasons"] if len(shown) > 5 else []
    return " · ".join(shown[:5] + more) or "no seat has begun"


def why(result: Answer) -> str:
    head = f"{result['id']} {result['outcome']}" + (f": {result['reason']}" if result["reason"] else "")
    return lines(head, {label: said for label, said in (result["facts"] | {"next": result["next"]}).items() if said})


def tasks(found: list[Answer]) -> str:
    rows = [[row["id"], row["state"], row["title"], plural(row["cases"], "case"), _tried(row)] for row in found]
    return "\n".join(table(rows, left=5))


def _tried(row: Answer) -> str:
    if row["state"] not in ("ready", "claimed"):
        return str(row["reason"])
    marks = [f"{row['session']} since {clock(row['since'])}"] if row["since"] else []
    marks += [f"after {row['after']}"] if row["after"] and not row["since"] else []
    counts = (("bounced", row["bounces"]), ("given back", row["releases"]))
    return ", ".join([*marks, *(f"{word} {plural(count, 'time')}" for word, count in counts if count)])


def runs(found: list[Answer]) -> str:
    lines = [["run", "state", "began", "took", "seats", "passing", "landed", "bounced", "cost"]]
    for one in found:
        passed, total = (sum(suite[key] for suite in one["suites"].values()) for key in ("passed", "total"))
        ended = [str(one["queue"].get(state, 0)) for state in ("landed", "bounced")]
        began, took = moment(one["since"])[:16], hours(one["elapsed_s"])
        cost = "unmetered" if one["spent_usd"] is None else money(one["spent_usd"])
        lines.append([one["run"], one["state"], began, took, str(one["agents"]), f"{passed}/{total}", *ended, cost])
    return "\n".join(table(lines, left=3))


def cost(result: Answer) -> str:
    head = [result["by"], "USD", "share", "requests", "landed", "per landed", "cache hit"]
    body = []
    for row in (*result["rows"], result["total"]):
        usd = [money(row[key]) if row[key] is not None else "" for key in ("spent_usd", "per_landed_usd")]
        shares = [percent(row[key], 1) if row[key] is not None else "" for key in ("share", "cache_hit")]
        body.append([row["key"], usd[0], shares[0], str(row["requests"]), str(row["landed"] or ""), usd[1], shares[1]])
    waste, doubt, core = result["waste"], result["in_doubt"], result["core_hours"]
    cut = f"{plural(doubt['requests'], 'request')} cut in flight, counted at their reservation"
    facts: Answer = {
        "of which": f"only bounced {money(waste['bounced_usd'])} · landed nothing {money(waste['given_up_usd'])}",
        "in doubt": f"{cut}: {money(doubt['reserved_usd'])}",
    }
    if result["total"]["spent_usd"] is None:
        facts = {"unmetered": "no request of this run has a price"}
    if result["unpriced"]:
        facts["unknown"] = f"{plural(result['unpriced'], 'request')} without a price: not in the sums above"
    facts["machine"] = f"{core['gate']:.1f} core-hours of gate, {core['seats']:.1f} h of seats' commands (no rate set)"
    return "\n".join([*table([head, *body]), *(f"{label:<10} {text}" for label, text in facts.items())])


def report(result: Answer) -> str:
    facts = {"picture": result["picture"], "shown": suites(result["suites"]), "held out": suites(result["heldout"])}
    return lines(f"{result['file']}, one file", facts)
