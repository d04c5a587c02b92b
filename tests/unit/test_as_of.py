"""The explicit clock: where a run's as_of comes from, and what is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.clock import now, parse_as_of, read_replay_clock, to_micros, to_text, write_replay_clock
from penstock.errors import ClockError
from penstock.operators.base import resolve_as_of
from penstock.spec.loading import load_environment
from penstock.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
START = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose replay clock is a file of the test's own."""
    environment = load_environment(REPOSITORY, "dev").model_copy(update={"replay_clock": str(tmp_path / "clock")})
    return Workspace(REPOSITORY, environment)


def context(**changes: Any) -> Any:
    """A task's context, as far as the clock looks at it."""
    run = SimpleNamespace(run_type="manual", data_interval_end=None, run_after=START)
    return {"params": {}, "triggering_asset_events": {}, "dag_run": run, **changes}


def events(*texts: str | None) -> dict[str, list[Any]]:
    return {"asset": [SimpleNamespace(extra={"as_of": text} if text else {}) for text in texts]}


def test_the_parameter_comes_first(workspace: Workspace) -> None:
    found = resolve_as_of(
        workspace, context(params={"as_of": "2013-05-01"}, triggering_asset_events=events("2013-06-01"))
    )
    assert found == datetime(2013, 5, 1, tzinfo=UTC)


def test_of_several_events_the_greatest_as_of_counts(workspace: Workspace) -> None:
    found = resolve_as_of(
        workspace, context(triggering_asset_events=events("2013-05-01", None, "2013-07-01", "2013-06-01"))
    )
    assert found == datetime(2013, 7, 1, tzinfo=UTC)


def test_a_scheduled_interval_ends_it_and_a_manual_run_has_none(workspace: Workspace) -> None:
    end = datetime(2024, 4, 1, tzinfo=UTC)
    scheduled = SimpleNamespace(run_type="scheduled", data_interval_end=end, run_after=START)
    manual = SimpleNamespace(run_type="manual", data_interval_end=end, run_after=START)
    assert resolve_as_of(workspace, context(dag_run=scheduled)) == end
    assert resolve_as_of(workspace, context(dag_run=manual)) == START


def test_the_replay_clock_stands_for_now(workspace: Workspace) -> None:
    write_replay_clock(str(workspace.environment.replay_clock), datetime(2013, 8, 1, tzinfo=UTC))
    assert resolve_as_of(workspace, context()) == datetime(2013, 8, 1, tzinfo=UTC)


def test_a_clock_that_was_never_set_is_none(tmp_path: Path) -> None:
    assert read_replay_clock(tmp_path / "nothing") is None
    assert read_replay_clock(None) is None


@pytest.mark.parametrize("text", ["", "soon", "2013-13-01", "01.05.2013"])
def test_what_is_no_timestamp_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ClockError, match="2013-05-01"):
        parse_as_of(text)


def test_the_future_is_refused() -> None:
    with pytest.raises(ClockError, match="future"):
        parse_as_of(now() + timedelta(days=1))


def test_moments_are_utc_whatever_their_zone() -> None:
    assert parse_as_of("2013-05-01T02:00:00+02:00") == parse_as_of("2013-05-01") == parse_as_of("2013-05-01T00:00Z")
    assert to_text(parse_as_of("2013-05-01")) == "2013-05-01T00:00:00Z"
    assert to_micros(datetime(1970, 1, 2, tzinfo=UTC)) == 86_400_000_000
