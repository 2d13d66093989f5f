"""What a role is told: our text for it, then the project's for every role, then the project's for this one.

The run's own block (who you are, your task, main now) is not here: it changes with each session and comes last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from orchestrator.project.project import SHIPPED_ROLES, Project

SHIPPED: Final = Path(__file__).parent / "prompts"


def compose(role: str, project: Project) -> str:
    """The role's whole prompt. The same project and version of ours give the same text, so that it stays cached.

    Raises `KeyError` for a role that is neither shipped nor the project's own.
    """
    texts = [(SHIPPED / f"{role}.md").read_text(encoding="utf-8")] if role in SHIPPED_ROLES else [project.prompts[role]]
    texts.append(project.prompts.get("all", ""))
    if role in SHIPPED_ROLES:
        texts.append(project.prompts.get(role, ""))
    return "\n\n".join(text.strip() for text in texts if text.strip()) + "\n"
