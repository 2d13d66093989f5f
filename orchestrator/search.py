"""The search for who lost a case: over prefixes of a row of changes, many cases at once, with few builds.

Pure: it knows neither trees nor judges. The queue asks it over what is staged, the lane after landing over what has
landed.
"""

from collections.abc import Awaitable, Callable, Iterable

import anyio

Cases = frozenset[str]


async def first_failing(
    lost: Cases, size: int, probes: int, failing: Callable[[int, Cases], Awaitable[Cases]]
) -> dict[int, Cases]:
    """For each lost case the prefix (1..size) that fails it while the one before passes it, by prefix.

    That none passes all, and `size` changes fail all, is known and not asked again. `failing` says which of the cases
    asked for fail on so many changes. If a case once lost stays lost, its prefix is the first that fails it; one that
    comes and goes has several such prefixes, and gets one of them.

    All cases share the probes, at most so many at once: each prefix is asked for at most once, and for no case whose
    answer follows from what is known. One case takes ⌈log(size) / log(probes + 1)⌉ rounds. What a probe raises ends the
    others and leaves as itself.
    """
    bounds = dict.fromkeys(lost, (0, size))  # the case passes on so many changes, and fails on so many
    while places := _between(bounds.values(), probes):
        failed: dict[int, Cases] = {}

        async def probe(place: int, asked: Cases, failed: dict[int, Cases] = failed) -> None:
            failed[place] = await failing(place, asked)

        try:
            async with anyio.create_task_group() as tasks:
                for place in places:
                    asked = frozenset(case for case, (passes, fails) in bounds.items() if passes < place < fails)
                    tasks.start_soon(probe, place, asked)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        for case, (passes, fails) in bounds.items():
            tried = [place for place in places if passes < place < fails]
            fails = min((place for place in tried if case in failed[place]), default=fails)
            passes = max((place for place in tried if place < fails), default=passes)
            bounds[case] = (passes, fails)
    found = {fails for _, fails in bounds.values()}
    return {place: frozenset(case for case, (_, fails) in bounds.items() if fails == place) for place in sorted(found)}


def _between(bounds: Iterable[tuple[int, int]], most: int) -> list[int]:
    """At most so many places, evenly among all that lie inside of the bounds."""
    inside = sorted({place for low, high in bounds for place in range(low + 1, high)})
    count = min(most, len(inside))
    return [inside[len(inside) * (2 * n + 1) // (2 * count)] for n in range(count)]
