"""How long an open seat may be silent. In memory and on the monotonic clock: a resume starts every lease anew, full."""

from __future__ import annotations


class Leases:
    """Leases of open seats' sessions. `now` is `anyio.current_time()`; anything the seat does renews."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[str, float] = {}

    def renew(self, session: str, now: float) -> None:
        self._ends[session] = now + self.seconds

    def end(self, session: str) -> None:
        self._ends.pop(session, None)

    def left(self, session: str, now: float) -> float:
        """Seconds until it runs out; 0 when it has, or when there is none."""
        return max(0.0, self._ends.get(session, now) - now)

    def expired(self, now: float) -> list[str]:
        """Sessions whose lease has run out; they stay in the list until `end`."""
        return [session for session, ends in self._ends.items() if ends <= now]
