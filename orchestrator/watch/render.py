"""Answers as text for people. Every word that an agent may have written has been made visible before it comes here."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from orchestrator.watch.queries import Answer
from orchestrator.watch.text import clock, moment, money, percent, plural, span, table


def lines(head: str, facts: Answer) -> str:
    """A first line, and under it what there is of each fact: its label, then its lines below each other."""
    body = []
    for label, said in facts.items():
        for number, line in enumerate([said] if isinstance(said, str) and said else said or ()):
            body.append(f"  {'' if number else label:<10} {line}")
    return "\n".join([head, *body])


def status(result: Answer) -> str:
    run, state, since = result["run"], result["state"], clock(result["as_of"])
    dead, took = state == "dead", span(result["elapsed_s"])
    over = f"{state} after {took}: {result['reason']}"
    gone = f"NOT RUNNING since {since}: its process is gone and nobody asked it to stop"
    doing = {"dead": gone, "ended": over, "stopped": over}.get(state, f"{state} {took}, as of {since}")
    counts = {"queued": 0, "landed": 0, "bounced": 0} | result["queue"]
    judging, queue = counts.pop("judging", 0), f"{counts.pop('queued')} queued"
    if judging:
        began, seen = map(datetime.fromisoformat, (result["judging_since"], result["as_of"]))
        queue = f"{judging} being judged for {span((seen - began).total_seconds())}, {queue}"
    queue += f" · {', '.join(f'{count} {what}' for what, count in counts.items())}"
    seats = Counter((seat["state"], seat["why"]) for seat in result["seats"])
    team = [f"{count} {what}" + f": {why}" * bool(why) for (what, why), count in sorted(seats.items())]
    facts = {
        "progress": suites(result["suites"]),
        "held out": suites(result["heldout"]) if result["heldout"] is not None else "",
        "money": spent(result),
        "team": f"{plural(result['sessions_live'], 'session')} in mid-turn" if dead else " · ".join(team),
        "queue": queue,
        "look at": [one["text"] for one in result["attention"]],
        "next": f"python -m orchestrator resume {run}" if dead else "",
    }
    return lines(f"{run}   {doing}".ljust(86) + ("  healthy" if result["healthy"] else "  NOT HEALTHY"), facts)


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
    if result["reserved"]:
        words += f" · {money(result['reserved_usd'])} reserved for {plural(result['reserved'], 'request')} in flight"
    if result["in_doubt"]:
        words += f" · {money(result['in_doubt_usd'])} of it in doubt"
    return words + (f" · {plural(result['unpriced'], 'request')} of unknown price" if result["unpriced"] else "")


def why(result: Answer) -> str:
    head = f"{result['id']} {result['outcome']}" + (f": {result['reason']}" if result["reason"] else "")
    return lines(head, result["facts"] | {"next": result["next"]})


def tasks(answer: Answer) -> str:
    return table(answer["rows"]) or "no such task"


def runs(answer: Answer) -> str:
    shown = []
    for one in answer["rows"]:
        passed, total = (sum(suite[key] for suite in one["suites"].values()) for key in ("passed", "total"))
        times = {"began": moment(one["since"])[:16], "took": span(one["elapsed_s"]), "seats": one["agents"]}
        ended = {state: one["queue"].get(state, 0) for state in ("landed", "bounced")}
        head = {"run": one["run"], "state": one["state"]}
        shown.append({**head, **times, "passing": f"{passed}/{total}", **ended, "spent_usd": one["spent_usd"]})
    return table(shown)


def cost(result: Answer) -> str:
    waste, doubt, core = result["waste"], result["in_doubt"], result["core_hours"]
    cut = f"{plural(doubt['requests'], 'request')} cut in flight, counted at their reservation"
    facts: Answer = {"unmetered": "no request of this run has a price"}
    if result["total"]["spent_usd"] is not None:
        facts = {
            "of which": f"only bounced {money(waste['bounced_usd'])} · landed nothing {money(waste['given_up_usd'])}",
            "in doubt": f"{cut}: {money(doubt['reserved_usd'])}",
        }
    if result["unpriced"]:
        facts["unknown"] = f"{plural(result['unpriced'], 'request')} without a price: not in the sums above"
    facts["machine"] = f"{core['gate']:.1f} core-hours of gate, {core['seats']:.1f} h of seats' commands (no rate set)"
    return lines(table([*result["rows"], result["total"]]), facts)


def report(result: Answer) -> str:
    facts = {"picture": result["picture"], "shown": suites(result["suites"]), "held out": suites(result["heldout"])}
    return lines(f"{result['file']}, one file", facts)
