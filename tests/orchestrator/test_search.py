"""Promises of the search for culprits: it names a change that lost the case, with few builds and none of them twice."""

import math

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.search import first_failing

Cases = frozenset[str]
Truth = dict[str, set[int]]  # the prefixes that fail each case


class Prefixes:
    """A row of changes whose truth is known, and the record of what was asked of it."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.asked: list[tuple[int, Cases]] = []
        self.busy = self.most = 0

    async def failing(self, place: int, cases: Cases) -> Cases:
        self.asked.append((place, cases))
        self.busy += 1
        self.most = max(self.most, self.busy)
        await anyio.lowlevel.checkpoint()
        self.busy -= 1
        return frozenset(case for case in cases if place in self.truth[case])

    def found(self, size: int, probes: int, backend: str = "asyncio") -> dict[int, Cases]:
        return anyio.run(first_failing, frozenset(self.truth), size, probes, self.failing, backend=backend)


def stays_lost(*, from_place: int, size: int) -> set[int]:
    return set(range(from_place, size + 1))


@st.composite
def comes_and_goes(draw: st.DrawFn) -> tuple[Truth, int, int]:
    size = draw(st.integers(1, 30))
    lost = st.sets(st.integers(1, size)).map(lambda places: places | {size})
    return (
        draw(st.dictionaries(st.text("abc", min_size=1, max_size=2), lost, max_size=5)),
        size,
        draw(st.integers(1, 6)),
    )


@given(comes_and_goes())
def test_each_case_gets_a_prefix_that_fails_it_after_one_that_passes_it(drawn: tuple[Truth, int, int]) -> None:
    truth, size, probes = drawn
    found = Prefixes(truth).found(size, probes)
    assert sorted(case for cases in found.values() for case in cases) == sorted(truth)
    for place, cases in found.items():
        assert all(place in truth[case] and place - 1 not in truth[case] for case in cases)


@given(st.integers(1, 60), st.integers(1, 6), st.data())
def test_what_stays_lost_was_lost_by_the_prefix_found(size: int, probes: int, data: st.DataObject) -> None:
    culprits = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, size)))
    row = Prefixes({case: stays_lost(from_place=place, size=size) for case, place in culprits.items()})
    found = row.found(size, probes)
    assert {case: place for place, cases in found.items() for case in cases} == culprits


@given(comes_and_goes())
def test_no_prefix_is_built_twice_and_no_case_asked_whose_answer_is_known(drawn: tuple[Truth, int, int]) -> None:
    truth, size, probes = drawn
    row = Prefixes(truth)
    row.found(size, probes)
    places = [place for place, _ in row.asked]
    assert len(places) == len(set(places))
    assert all(cases and 0 < place < size for place, cases in row.asked)
    assert row.most <= probes


@pytest.mark.parametrize(("size", "probes", "builds"), [(1, 4, 0), (2, 4, 1), (6, 1, 3), (6, 4, 5), (256, 1, 8)])
def test_few_builds_find_one_culprit(size: int, probes: int, builds: int) -> None:
    for culprit in range(1, size + 1):
        row = Prefixes({"a": stays_lost(from_place=culprit, size=size)})
        row.found(size, probes)
        assert len(row.asked) <= builds
        assert len(row.asked) <= probes * math.ceil(math.log(size, probes + 1) + 1e-9)


def test_cases_with_one_culprit_share_every_build() -> None:
    truth = {f"case-{n}": stays_lost(from_place=5, size=8) for n in range(50)}
    row = Prefixes(truth)
    assert row.found(8, 1) == {5: frozenset(truth)}
    assert len(row.asked) == 3


class Trouble(Exception):
    pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_probe_raises_ends_the_others_and_leaves_as_itself(backend: str) -> None:
    ended: list[int] = []

    async def failing(place: int, cases: Cases) -> Cases:
        if place > 2:
            raise Trouble(place)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(place)
        raise AssertionError

    with pytest.raises(Trouble):
        anyio.run(first_failing, frozenset({"a"}), 4, 4, failing, backend=backend)
    assert set(ended) <= {1, 2}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_search_can_be_cancelled(backend: str) -> None:
    async def forever(place: int, cases: Cases) -> Cases:
        await anyio.sleep_forever()
        raise AssertionError

    async def search() -> bool:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first_failing, frozenset({"a"}), 9, 4, forever)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        return scope.cancelled_caught

    assert anyio.run(search, backend=backend)
