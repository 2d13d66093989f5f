"""How many seats each role gets."""

from __future__ import annotations

from collections.abc import Mapping


def share_out(weights: Mapping[str, int], agents: int) -> dict[str, int]:
    """Seats for each role by largest remainder, ties to the role named first, and at least one builder."""
    whole = sum(weights.values())
    seats = {role: agents * weight // whole for role, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda role: -(agents * weights[role] % whole))  # stable: ties keep their order
    for role in by_remainder[: agents - sum(seats.values())]:
        seats[role] += 1
    if weights.get("builder") and not seats["builder"]:
        seats[max(seats, key=lambda role: seats[role])] -= 1
        seats["builder"] = 1
    return {role: count for role, count in seats.items() if count}
