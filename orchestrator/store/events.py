"""The journal's kinds and the fields of each. Fields are only ever added; `tests/golden/` keeps old ones readable."""

from __future__ import annotations

from typing import Final

KINDS: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(fields.split())
    for kind, fields in {
        "run-started": "name project lock agents models by",
        "run-resumed": "version by sessions",
        "run-paused": "by now",
        "run-draining": "by reason",
        "run-stopped": "by reason",
        "run-ended": "reason",
        "condition-changed": "what old new by",
        "revealed": "by",
        "task-added": "task title source by cases",
        "task-closed": "task reason",
        "task-dropped": "task reason by",
        "task-reopened": "task reason",
        "tasks-ordered": "tasks by",
        "claimed": "task session plan",
        "released": "task session reason",
        "session-started": "session role model base",
        "session-ended": "session end note turns",
        "session-continued": "session doing",
        "call": "session turn name brief seconds failed",
        "verified": "session what passed total seconds",
        "noted": "session topic text",
        "said": "to by text",
        "submitted": "change session task fixes added removed",
        "judging": "changes main tier",
        "judged": "changes tree tier passed total seconds lost gained built",
        "voided": "changes reason",
        "gate-paused": "reason",
        "landing": "change old new scorecard",
        "landed": "change task commit passed total gained",
        "bounced": "change task reason lost",
        "withdrawn": "change reason",
        "heldout-judged": "commit scorecard",
        "waiting": "who why until",
        "spent": "share micro",
        "attempt-failed": "session turn failure wait_s",
        "seat-idle": "reason",
        "seat-crashed": "error wait_s",
        "room-lost": "session reason",
        "swept": "count",
    }.items()
}
