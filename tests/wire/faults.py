"""Which response goes wrong, and how: a plan drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from enum import StrEnum


class Fault(StrEnum):
    RATE_LIMIT = "429"
    OVERLOAD = "529"
    SERVER_ERROR = "500"
    OVERLOAD_IN_STREAM = "overload-in-stream"
    CUT = "cut"
    STALL = "stall"
    BAD_JSON = "bad-json"


UNTIMED = tuple(fault for fault in Fault if fault is not Fault.STALL)
"""The faults that a client meets without a clock, so that both sides' counts must agree to the last attempt."""


class Plan:
    """One fault in every `every` responses, at a place and of a kind that the seed draws; none without `every`.

    `first` are the faults of the first responses (None: none), for tests that want one in its place.
    """

    def __init__(
        self,
        every: int = 0,
        seed: int = 0,
        kinds: Sequence[Fault] = tuple(Fault),
        first: Sequence[Fault | None] = (),
    ) -> None:
        self._every, self._kinds, self._first = every, tuple(kinds), list(first)
        self._random = random.Random(seed)
        self._at = -1
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> Fault | None:
        with self._lock:
            if self._first:
                return self._first.pop(0)
            if not self._every:
                return None
            place = self._count % self._every
            if place == 0:
                self._at = self._random.randrange(self._every)
            self._count += 1
            return self._random.choice(self._kinds) if place == self._at else None
