"""Parent of one `local` command, run as a program: ends everything the command leaves behind.

`reap.py --argv0 TAG -- COMMAND…` adopts every orphan below it (a daemon with a session of its own too), and kills
all of them when the command ends, when the orchestrator dies, or at SIGTERM. Exits as a shell would (128 + signal).
Needs nothing but the interpreter, so that it starts quickly.
"""

import ctypes
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def below(top: int) -> list[int]:
    """Every process below `top`, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or kept from us
            parent = int((entry / "stat").read_text(errors="replace").rsplit(") ", 1)[1].split()[1])
            children[parent].append(int(entry.name))
    found = children[top]
    for pid in found:
        found += children[pid]
    return found


def end_below(top: int) -> None:
    """Kills everything below a process, which must reap it. All are stopped first, so that nobody forks while being
    counted. Gives up on what is never found in time."""
    for _ in range(1000):
        if top == os.getpid():
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        if not (pids := below(top)):
            return
        send(signal.SIGSTOP, pids)
        send(signal.SIGKILL, pids)


def send(number: int, pids: Iterable[int]) -> None:
    """Signals those that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def main(argv: list[str]) -> int:
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    ignored = (signal.SIGPIPE, signal.SIGXFSZ)  # by this interpreter, not by the command
    child = os.posix_spawnp(argv[0], argv, os.environ, setsigdef=ignored)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)) and ended.si_pid != child:
        os.waitpid(ended.si_pid, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on the number may be another process's
    status = os.waitpid(child, 0)[1]
    end_below(os.getpid())
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[4:]))
