"""`report`: what a run leaves for others to read."""

from __future__ import annotations

from orchestrator.cli.launch import reveal, utc_now
from orchestrator.cli.manners import LOGS, Json, Logs, Run, give, hint
from orchestrator.cli.places import find, live_pid, runs_in
from orchestrator.watch.report import publish, words


def report(run: Run = None, as_json: Json = False, logs: Logs = LOGS) -> None:
    """One HTML file to publish. Held-out results are revealed from here on, and that is journalled.

    Example: python -m orchestrator report c-compiler-2
    """
    folder = find(logs, run)
    reveal(folder)
    others = [other for other in runs_in(logs) if other != folder]
    result = publish(folder, others, alive=live_pid(folder) is not None, now=utc_now())
    give("report", result, as_json, words)
    hint("Held-out results are revealed from here on; journalled.", as_json)
