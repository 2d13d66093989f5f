"""Which engine makes a run's rooms."""

from pathlib import Path

from sandbox.bubblewrap import BubblewrapEngine
from sandbox.docker import DockerEngine
from sandbox.local import LocalEngine
from sandbox.room import Engine, EngineUnavailable


def choose(name: str | None, home: Path, *, judging: bool = False) -> Engine:
    """The engine of that name, or, without one, Docker where an engine answers, else bubblewrap where namespaces work.

    `judging` looks for bubblewrap first: it opens a room for each step of each case in a fraction of Docker's time.
    `local` does not isolate and is never chosen. Raises `EngineUnavailable`. Blocks for a moment: it asks the machine.
    """
    if name == "local":
        return LocalEngine(home)
    order = [kind(home) for kind in (DockerEngine, BubblewrapEngine) if name in (None, kind.name)]
    if not order:
        raise EngineUnavailable(f"no sandbox is called {name!r}; there are docker, bubblewrap and local")
    reasons = []
    for engine in reversed(order) if judging else order:
        try:
            engine.check()
            return engine
        except EngineUnavailable as error:
            reasons.append(str(error))
    raise EngineUnavailable(
        f"no sandbox works here ({'; '.join(reasons)}). Start a Docker engine, allow user namespaces, or ask "
        "for `--sandbox local`, which does not isolate commands from this machine"
    )
