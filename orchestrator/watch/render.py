"""How values and answers read: in words for people, with hostile text made visible; in JSON for programs.

Every word of an answer that an agent may have written has been made visible before it comes here.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator import quoting

Answer = dict[str, Any]


def visible(text: object, limit: int = 400) -> str:
    """One line that a terminal shows and never obeys: what would act on it is spelled out, what is too long is cut."""
    raw = str(text)
    cut = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return quoting.visible(cut).replace("\n", "\\n").replace("\t", "\\t")


def plain(value: Any, name: str = "") -> Any:
    """Dataclasses become objects, times UTC to the second. A number whose name ends in `_usd` or `_usd_h` is
    micro-dollars and becomes a decimal string that loses none of them; unknown stays null."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, int) and name.endswith(("_usd", "_usd_h")):
        whole, _, cents = f"{Decimal(value).scaleb(-6):f}".partition(".")
        return f"{whole}.{cents.rstrip('0'):0<2}"
    if isinstance(value, str):
        return re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?\+00:00$", r"\1Z", value)
    return value


def money(micro: int | None) -> str:
    return "unknown" if micro is None else f"${micro / 1e6:,.2f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def span(seconds: float) -> str:
    """How long, to the precision a person wants."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def moment(at: str) -> str:
    """A stored time as local date and time."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(at: str) -> str:
    """A stored time as the local time of day."""
    return moment(at)[11:]


def some(names: Sequence[object]) -> str:
    """The first three of a list, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(visible(name) for name in names[:3]) + more


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + "s" * (count != 1)


def cell(name: str, value: Any) -> str:
    """A field of a table: money by its name, a share if it has a fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        return percent(value, 1)
    return money(value) if name.endswith("_usd") else str(value)


def heading(name: str) -> str:
    return name.removesuffix("_usd").replace("_", " ")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the names of their columns, numbers to the right. A column with nothing in it is left out."""
    columns = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if any(values):
            cells = [heading(name), *(cell(name, value) for value in values)]
            side = "<" if any(isinstance(value, str) for value in values) else ">"
            columns.append([f"{text:{side}{max(map(len, cells))}}" for text in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def lines(head: str, facts: Answer) -> str:
    """A first line, and under it what there is of each fact: its label, then its lines below each other."""
    body = []
    for label, said in facts.items():
        for number, line in enumerate([said] if isinstance(said, str) and said else said or ()):
            body.append(f"  {'' if number else label:<10} {line}")
    return "\n".join([head, *body])


def state(result: Answer) -> str:
    """What a run does, for how long, or how it ended."""
    run_is, since, took = result["state"], clock(result["as_of"]), span(result["elapsed_s"])
    over = f"{run_is} after {took}: {result['reason']}"
    gone = f"NOT RUNNING since {since}: its process is gone and nobody asked it to stop"
    return {"dead": gone, "ended": over, "stopped": over}.get(run_is, f"{run_is} {took}, as of {since}")


def health(result: Answer) -> str:
    return "healthy" if result["healthy"] else "NOT HEALTHY"


def queue(result: Answer) -> str:
    counts = {"queued": 0, "landed": 0, "bounced": 0} | result["queue"]
    words = [f"{counts.pop(state)} {state}" for state in ("staged", "parked", "queued") if state in counts]
    if judging := counts.pop("judging", 0):
        began, seen = map(datetime.fromisoformat, (result["judging_since"], result["as_of"]))
        words.insert(0, f"{judging} being judged for {span((seen - began).total_seconds())}")
    return f"{', '.join(words)} · {', '.join(f'{count} {what}' for what, count in counts.items())}"


def status(result: Answer) -> str:
    run, dead = result["run"], result["state"] == "dead"
    seats = Counter((seat["state"], seat["why"]) for seat in result["seats"])
    team = [f"{count} {what}" + f": {why}" * bool(why) for (what, why), count in sorted(seats.items())]
    facts = {
        "progress": suites(result["suites"]),
        "held out": suites(result["heldout"]) if result["heldout"] is not None else "",
        "money": spent(result),
        "team": f"{plural(result['sessions_live'], 'session')} in mid-turn" if dead else " · ".join(team),
        "queue": queue(result),
        "replay": "" if result["divergences"] is None else plural(result["divergences"], "divergence"),
        **excused(result["excused"]),
        "look at": [one["text"] for one in result["attention"]],
        "next": f"python -m orchestrator resume {run}" if dead else "",
    }
    return lines(f"{run}   {state(result)}".ljust(86) + f"  {health(result)}", facts)


def suites(counts: Answer) -> str:
    """`torture 2325/3843 (60.5 %, +141 in the last hour) · unit 212/212 (100.0 %)`."""
    return " · ".join(f"{name} {share(suite)}" for name, suite in counts.items()) or "nothing has been judged yet"


def excused(found: Sequence[Answer]) -> Answer:
    """What the ratchet lets go: a line for each flaky case, and one for all that were waived together."""
    flaky = [f"{one['case']} ({one['task']}): {one['reason']}" for one in found if one["kind"] == "flaky"]
    waivers: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one["until"]:
            waivers.setdefault((moment(one["until"]), one["reason"], one["by"]), []).append(one["case"])
    waived = [f"{some(cases)} until {until}: {why}, by {by}" for (until, why, by), cases in waivers.items()]
    more = [f"and {len(flaky) - 3} more"] if len(flaky) > 3 else []
    return {"flaky": flaky[:3] + more, "waived": waived}


def share(suite: Answer) -> str:
    delta = f", {suite['delta_1h']:+d} in the last hour" if suite.get("delta_1h") else ""
    flaky = f", {suite['flaky']} flaky" if suite.get("flaky") else ""
    return f"{suite['passed']}/{suite['total']} ({percent(suite['passed'], suite['total'])}{delta}{flaky})"


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
        shown.append({"run": one["run"], "state": one["state"]})
        if one["state"] == "unreadable":
            continue
        passed, total = (sum(suite[key] for suite in one["suites"].values()) for key in ("passed", "total"))
        times = {"began": moment(one["since"])[:16], "took": span(one["elapsed_s"]), "seats": one["agents"]}
        ended = {state: one["queue"].get(state, 0) for state in ("landed", "bounced")}
        shown[-1] |= {**times, "passing": f"{passed}/{total}", **ended, "spent_usd": one["spent_usd"]}
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
