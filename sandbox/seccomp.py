"""The system-call filter of bubblewrap's rooms, as raw BPF: `bwrap --seccomp` takes it so, no library needed."""

import platform
import struct
from functools import cache
from typing import Final

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ENOSYS, _KILL, _X32 = 0x7FFF0000, 0x00050000 | 38, 0x80000000, 0x40000000
TRACING: Final = {"ptrace", "process_vm_readv", "process_vm_writev"}

# For each machine the audit architectures that its kernel runs, as places in `_NUMBERS`: a 64-bit x86 kernel also runs
# 32-bit programs, which have numbers of their own.
_MACHINES: Final = {"x86_64": {0xC000003E: 0, 0x40000003: 1}, "aarch64": {0xC00000B7: 2}}
_NUMBERS: Final = {
    "memfd_create": (319, 356, 279),
    "memfd_secret": (447, 447, 447),
    "shmget": (29, 395, 194),
    "ipc": (None, 117, None),
    "add_key": (248, 286, 217),
    "request_key": (249, 287, 218),
    "keyctl": (250, 288, 219),
    "perf_event_open": (298, 336, 241),
    "bpf": (321, 357, 280),
    "userfaultfd": (323, 374, 282),
    "io_uring_setup": (425, 425, 425),
    "ptrace": (101, 26, 117),
    "process_vm_readv": (310, 347, 270),
    "process_vm_writev": (311, 348, 271),
}


@cache
def program(*, memfd: bool, shm: bool, trace: bool = True) -> bytes | None:
    """The filter, or None on an architecture whose numbers are not known here.

    Denied calls fail with ENOSYS. `memfd` (code that lives in no file) and `shm` are memory that rlimits do not count:
    they are allowed only where a control group counts them. `trace` is one process at work in another: a compiler under
    test in the runner that called it.
    """
    if platform.machine() not in _MACHINES:
        return None
    allowed = ({"memfd_create", "memfd_secret"} if memfd else set()) | ({"shmget", "ipc"} if shm else set())
    allowed |= TRACING if trace else set()
    code = _step(_LOAD, 0, 0, 4)
    for architecture, place in _MACHINES[platform.machine()].items():
        checks = [_step(_LOAD, 0, 0, 0)]
        if architecture == 0xC000003E:
            checks += [_step(_JUMP_GREATER_EQUAL, 0, 1, _X32), _step(_RETURN, 0, 0, _KILL)]
        for name in sorted(_NUMBERS.keys() - allowed):
            if (number := _NUMBERS[name][place]) is not None:
                checks += [_step(_JUMP_EQUAL, 0, 1, number), _step(_RETURN, 0, 0, _ENOSYS)]
        checks.append(_step(_RETURN, 0, 0, _ALLOW))
        code += _step(_JUMP_EQUAL, 0, len(checks), architecture) + b"".join(checks)
    return code + _step(_RETURN, 0, 0, _KILL)


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
