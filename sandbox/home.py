"""Where rooms and images are kept on this machine.

Root's rooms run as other host users, which must be able to walk to their mounts: so the place is an open one, never
below a closed home folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path


def state_home() -> Path:
    """`$ORCHESTRATOR_HOME`, else `/var/lib/orchestrator` for root, else `~/.local/share/orchestrator`."""
    if named := os.environ.get("ORCHESTRATOR_HOME"):
        return Path(named).absolute()
    return Path("/var/lib/orchestrator") if os.geteuid() == 0 else Path.home() / ".local/share/orchestrator"


def key(text: str) -> str:
    """A short file name for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:32]
    return f"{readable}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"
