"""Results as text for people. Every word that an agent may have written has been made visible before it comes here."""

from __future__ import annotations

from collections import Counter

from orchestrator.watch.cost import Cost, CostRow
from orchestrator.watch.queries import Passing, SeatNow, Status, TaskRow, spent_words
from orchestrator.watch.text import clock, hours, moment, money, percent, plural, span, table
from orchestrator.watch.why import Why

UP = {"running": "running", "paused": "paused", "draining": "draining"}


def status(result: Status) -> str:
    if result.state == "dead":
        return _dead(result)
    health = "healthy" if result.healthy else "NOT HEALTHY"
    if result.state in UP:
        head = f"{result.state} {hours(result.elapsed_s)}, as of {clock(result.as_of)}"
    else:
        head = f"{result.state} after {hours(result.elapsed_s)}" + (f": {result.reason}" if result.reason else "")
    lines = [f"{result.run}   {head}".ljust(88) + health]
    lines.append("  progress   " + (_suites(result.suites) or "nothing has been judged yet"))
    if result.heldout is not None:
        lines.append("  held out   " + (_suites(result.heldout) or "nothing has been judged yet"))
    lines += ["  money      " + spent_words(result), "  team       " + _team(result.seats)]
    lines.append("  queue      " + _queue(result))
    if result.attention:
        lines.append("  look at    " + " · ".join(one.text for one in result.attention))
    return "\n".join(lines)


def _dead(result: Status) -> str:
    queue, spending = result.queue, result.spending
    waiting = plural(queue.queued + queue.parked + queue.staged + queue.judging, "change")
    kept = f"{queue.landed} landed, {waiting} in the queue, {plural(result.sessions_live, 'session')} in mid-turn"
    if spending.metered:
        kept += f", {money(spending.spent_usd)} settled"
    if spending.reserved:
        kept += f", {money(spending.reserved_usd)} reserved for {plural(spending.reserved, 'request')} in flight"
    first = f"{result.run}   NOT RUNNING since {clock(result.as_of)}: its process is gone and nobody asked it to stop"
    return f"{first}\n  kept       {kept}\n  next       python -m orchestrator resume {result.run}"


def _suites(suites: dict[str, Passing]) -> str:
    return " · ".join(f"{name} {share(suite)}" for name, suite in suites.items())


def share(suite: Passing) -> str:
    delta = f", {suite.delta_1h:+d} in the last hour" if suite.delta_1h else ""
    return f"{suite.passed}/{suite.total} ({percent(suite.passed, suite.total)}{delta})"


def _team(seats: tuple[SeatNow, ...]) -> str:
    """How many work, who waits for what, and why the others are idle."""
    groups = Counter(
        (seat.state, f" for {seat.why}" if seat.state == "waits" else f": {seat.why}" if seat.state == "idle" else "")
        for seat in seats
    )
    order = {"works": 0, "waits": 1, "idle": 2}
    words = {"works": "work", "waits": "wait", "idle": "idle"}
    shown = [
        f"{count} {state if count == 1 else words[state]}{why}"
        for (state, why), count in sorted(groups.items(), key=lambda item: (order[item[0][0]], -item[1], item[0][1]))
    ]
    more = f" · {len(shown) - 5} other reasons" if len(shown) > 5 else ""
    return " · ".join(shown[:5]) + more if shown else "no seat has begun yet"


def _queue(result: Status) -> str:
    queue = result.queue
    states = (
        ("queued", queue.queued),
        ("parked", queue.parked),
        ("staged", queue.staged),
        ("being judged", queue.judging),
    )
    live = [f"{count} {name}" for name, count in states if count]
    if queue.judging_since:
        live[-1] += f" for {span((result.as_of - queue.judging_since).total_seconds())}"
    return f"{', '.join(live) or 'empty'} · {queue.landed} landed, {queue.bounced} bounced, {queue.withdrawn} withdrawn"


def why(result: Why) -> str:
    reason = f": {result.reason}" if result.reason else ""
    lines = [f"{result.id} {result.outcome}{reason}"]
    for fact in result.facts:
        first, *rest = fact.lines or ("none",)
        lines += [f"  {fact.label:<10} {first}", *(f"  {'':<10} {line}" for line in rest)]
    return "\n".join(lines + ([f"  {'next':<10} {result.next}"] if result.next else []))


def tasks(rows: list[TaskRow]) -> str:
    def tried(row: TaskRow) -> str:
        marks = [f"{row.seat} since {clock(row.since)}"] if row.since else []
        marks += [
            f"{word} {count} times" for word, count in (("bounced", row.bounces), ("given back", row.releases)) if count
        ]
        marks += [f"after {', '.join(row.after)}"] if row.after and row.state == "ready" else []
        return ", ".join(marks) or row.reason

    return "\n".join(
        table([[row.id, row.state, row.title, plural(row.cases, "case"), tried(row)] for row in rows], left=5)
    )


def runs(rows: list[Status]) -> str:
    table_rows = [["run", "state", "began", "took", "seats", "passing", "landed", "bounced", "cost"]]
    for row in rows:
        cost = "unmetered" if row.spent_usd is None else money(row.spent_usd)
        passed, total = (sum(getattr(one, name) for one in row.suites.values()) for name in ("passed", "total"))
        counts = [str(row.agents), f"{passed}/{total}", str(row.queue.landed), str(row.queue.bounced)]
        table_rows.append([row.run, row.state, moment(row.since)[:16], hours(row.elapsed_s), *counts, cost])
    return "\n".join(table(table_rows, left=3))


def cost(result: Cost) -> str:
    head = [result.by, "USD", "share", "requests", "landed", "per landed", "cache hit"]
    lines = table([head, *map(_cost_row, result.rows), _cost_row(result.total)])
    waste, doubt, core = result.waste, result.in_doubt, result.core_hours
    if result.metered:
        lines.append(f"of which   only bounced {money(waste.bounced_usd)} · landed nothing {money(waste.given_up_usd)}")
        cut = plural(doubt.requests, "request")
        lines.append(f"in doubt   {cut} cut in flight, counted at their reservation: {money(doubt.reserved_usd)}")
    else:
        lines.append("unmetered  no request of this run has a price")
    if result.unpriced:
        lines.append(f"unknown    {plural(result.unpriced, 'request')} without a price: not in the sums above")
    seats = f"{core['seats']:.1f} h of seats' commands"
    return "\n".join([*lines, f"machine    {core['gate']:.1f} core-hours of gate, {seats} (no rate set)"])


def _cost_row(one: CostRow) -> list[str]:
    def shown(value: float | None) -> str:
        return "" if value is None else percent(value, 1)

    usd = "-" if one.spent_usd is None else money(one.spent_usd)
    each = "" if one.per_landed_usd is None else money(one.per_landed_usd)
    return [one.key, usd, shown(one.share), str(one.requests), str(one.landed or ""), each, shown(one.cache_hit)]
