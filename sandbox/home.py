"""Where this machine keeps what runs share: images, sources, and what the engines put on disk."""

from __future__ import annotations

import os
from pathlib import Path


def state_home() -> Path:
    """$ORCHESTRATOR_HOME, else /var/lib/orchestrator for root and ~/.local/state/orchestrator for others.

    Root's is not below /root: the users that rooms run as must be able to reach the images.
    """
    if chosen := os.environ.get("ORCHESTRATOR_HOME"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/orchestrator")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "orchestrator"
