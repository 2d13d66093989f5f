"""What a command's end means, the same for every engine."""

from __future__ import annotations

import math
import os
from typing import Final

from sandbox.room import Command, Ended, Result

TIMED_OUT: Final = 124  # as timeout(1) reports it
KILLED: Final = 128 + 9
_XCPU: Final = 128 + 24


def result(
    command: Command, code: int, out: bytes, err: bytes, seconds: float, *, timed_out: bool, over: bool
) -> Result:
    """`code` is as a shell reports it; 137 is a kill, which after enough time under a CPU limit means that limit."""
    if timed_out:
        return Result(TIMED_OUT, out, err, seconds, Ended.TIMEOUT)
    if command.cpu_s is not None:
        spent = seconds * (os.cpu_count() or 1) >= math.ceil(command.cpu_s)
        if spent and code in (_XCPU, KILLED):
            return Result(code, out, err, seconds, Ended.TIMEOUT)
    ended = Ended.KILLED if code == KILLED else Ended.OUTPUT if over else Ended.EXITED
    return Result(code, out, err, seconds, ended)
