"""Where nothing isolates, a run still does its work, and says that it is not isolated."""

from __future__ import annotations

from tests.orchestrator.running import small_project, small_team, yard


def test_a_run_without_any_isolation_ends_as_any_other_and_tells_its_seats() -> None:
    with yard("local") as place:
        run = place.start(small_project(place.folder / "project"), small_team(place.folder / "team.toml"), 2)
        run.finish()
        assert set(run.judged().values()) == {"PASS"}
        told = [row[0] for row in run.rows("SELECT text FROM message")]
        assert any("isolates nothing" in line for line in told)
