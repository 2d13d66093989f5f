"""`python -m tests.wire SCRIPT [--port P] [--faults N] [--seed S] [--kinds 429,cut] [--log FILE]`: serves a team.

Until it is interrupted. Prints one JSON line: what to set so that models reach this server.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.wire.faults import Fault, Plan
from tests.wire.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.wire", description=__doc__.partition("\n")[0])
    parser.add_argument("script", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=int, default=0, help="one fault in every N responses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(Fault))
    parser.add_argument("--retry-after", type=float, default=0.2)
    parser.add_argument("--log", type=Path, help="the server's own count of billed attempts, JSON lines")
    parser.add_argument("--arrivals", action="store_true", help="and a line for each request as it comes")
    given = parser.parse_args()
    plan = Plan(given.faults, given.seed, [Fault(kind) for kind in given.kinds.split(",")])
    with serve(given.script, plan, given.log, given.port, given.retry_after, given.arrivals) as wire:
        sys.stdout.write(json.dumps(wire.env()) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
