"""The system-call filter of bubblewrap's rooms, as raw BPF: `bwrap --seccomp` takes it so, no library needed."""

from __future__ import annotations

import platform
import struct
from typing import Final

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ENOSYS, _KILL = 0x7FFF0000, 0x00050000 | 38, 0x80000000
_X32: Final = 0x40000000

# (audit architecture, its numbers). A 64-bit x86 kernel also runs 32-bit programs, which have numbers of their own.
_NUMBERS: Final = {
    "x86_64": (
        (
            0xC000003E,
            {"memfd_create": 319, "memfd_secret": 447, "shmget": 29, "add_key": 248, "request_key": 249, "keyctl": 250}
            | {"perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425},
        ),
        (
            0x40000003,
            {"memfd_create": 356, "memfd_secret": 447, "shmget": 395, "ipc": 117, "add_key": 286, "request_key": 287}
            | {"keyctl": 288, "perf_event_open": 336, "bpf": 357, "userfaultfd": 374, "io_uring_setup": 425},
        ),
    ),
    "aarch64": (
        (
            0xC00000B7,
            {"memfd_create": 279, "memfd_secret": 447, "shmget": 194, "add_key": 217, "request_key": 218, "keyctl": 219}
            | {"perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425},
        ),
    ),
}
_ALWAYS: Final = frozenset(
    {"add_key", "request_key", "keyctl", "perf_event_open", "bpf", "userfaultfd", "io_uring_setup"}
)
_MEMFD: Final = frozenset({"memfd_create", "memfd_secret"})
_SHM: Final = frozenset({"shmget", "ipc"})


def program(*, memfd: bool, shm: bool) -> bytes | None:
    """The filter, or None on an architecture whose numbers are not known here.

    Denied calls fail with ENOSYS. `memfd` (code that lives in no file) and `shm` are memory that rlimits do not count:
    they are allowed only where a control group counts them.
    """
    tables = _NUMBERS.get(platform.machine())
    if tables is None:
        return None
    denied = _ALWAYS | (frozenset() if memfd else _MEMFD) | (frozenset() if shm else _SHM)
    code = _step(_LOAD, 0, 0, 4)
    for architecture, numbers in tables:
        checks = [_step(_LOAD, 0, 0, 0)]
        if architecture == 0xC000003E:
            checks += [_step(_JUMP_GREATER_EQUAL, 0, 1, _X32), _step(_RETURN, 0, 0, _KILL)]
        for name in sorted(denied & numbers.keys()):
            checks += [_step(_JUMP_EQUAL, 0, 1, numbers[name]), _step(_RETURN, 0, 0, _ENOSYS)]
        checks.append(_step(_RETURN, 0, 0, _ALLOW))
        code += _step(_JUMP_EQUAL, 0, len(checks), architecture) + b"".join(checks)
    return code + _step(_RETURN, 0, 0, _KILL)


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
