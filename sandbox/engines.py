from pathlib import Path
from sandbox.room import Engine
from sandbox.bubblewrap import BubblewrapEngine
def choose(name: str | None, home: Path) -> Engine:
    return BubblewrapEngine(home)
