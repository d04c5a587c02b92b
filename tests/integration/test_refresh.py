"""Refreshing feature tables: incremental, repeatable, equal to a full recomputation, behind the gate."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from penstock.errors import ClockError, GateError, TableError
from penstock.features.known import KNOWN_AT
from penstock.features.merge import merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.lakehouse.records import latest_record
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment, refresh, rows, version

DAILY = ["park", "turbine", "event_time"]
Make = Callable[..., Workspace]


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A root with the second project, to change at will."""
    return copy_root(tmp_path)


def test_refresh_in_steps_equals_refresh_at_once(make_workspace: Make, second: Path, tmp_path: Path) -> None:
    stepwise = make_workspace(second, tmp_path / "steps")
    for as_of in ("2024-01-03", "2024-01-03T11:00", "2024-01-04", "2024-01-09T05:30", "2024-01-15"):
        refresh(stepwise, as_of)
    at_once = make_workspace(second, tmp_path / "once")
    refresh(at_once, "2024-01-15")
    for table, keys in (("turbine_daily", DAILY), ("park_wind", ["park", "event_time"])):
        expected = rows(at_once, table, keys)
        assert len(expected) > 100
        found = rows(stepwise, table, keys)
        pd.testing.assert_frame_equal(
            found.drop(columns=KNOWN_AT), expected.drop(columns=KNOWN_AT), check_exact=False, rtol=1e-12
        )


def test_what_did_not_change_is_not_rewritten(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    before = version(workspace, "turbine_daily")
    said = dict(refresh(workspace, "2024-01-10"))
    assert version(workspace, "turbine_daily") == before
    assert "nothing to do" in said["turbine_daily.stage"]


def test_only_touched_groups_are_computed(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-20")
    refresh(workspace, "2024-01-21")
    table = DeltaTable(workspace.addresses.readable(f"{PROJECT}.turbine_daily"))
    feed = pa.table(table.load_cdf(starting_version=table.version())).to_pandas()
    changed = (feed["_change_type"] != "update_preimage").sum()
    assert 0 < changed <= 18  # nine turbines, a day, and days that a late row belongs to


def test_an_as_of_before_what_was_reached_writes_nothing_and_says_so(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    before = version(workspace, "turbine_daily")
    said = dict(refresh(workspace, "2024-01-05"))
    assert version(workspace, "turbine_daily") == before
    assert "already reached 2024-01-10" in said["turbine_daily.stage"]
    assert "already reached 2024-01-10" in said["land.yields"]


def test_nothing_later_than_as_of_is_read(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10T11:00")
    until = pd.Timestamp("2024-01-10T11:00", tz="UTC")
    for table, column in (("yields", "known_at"), ("turbine_daily", "event_time"), ("park_wind", "event_time")):
        assert rows(workspace, table, ["park"])[column].max() <= until


def test_a_commit_records_what_it_was_made_from(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    record = latest_record(workspace.addresses.readable(f"{PROJECT}.turbine_daily"))
    assert record is not None
    assert record.as_of == "2024-01-10T00:00:00Z"
    assert record.inputs == {"yields": version(workspace, "yields")}
    assert record.definition


def test_a_repeated_merge_of_one_plan_commits_once(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    refresh_sources_only(workspace, "2024-01-12")
    staged = stage_table(workspace, PROJECT, "turbine_daily", moment("2024-01-12"))
    checked = validate_batch(workspace, staged)
    first = merge_batch(workspace, checked)
    again = merge_batch(workspace, checked)
    assert first.version == again.version


def refresh_sources_only(workspace: Workspace, as_of: str) -> None:
    """Lands without refreshing features."""
    from penstock.features.landing import land_source

    for source in ("slots", "yields", "conditions"):
        land_source(workspace, PROJECT, source, moment(as_of))


def test_hundred_corrupted_rows_are_exactly_the_quarantine(make_workspace: Make, second: Path) -> None:
    corrupt(second, "yields", "frame.loc[frame.index[50:150], 'energy'] = 9999.0")
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-31")
    quarantine = rows(workspace, "quarantine", ["keys"])
    assert len(quarantine) == 100
    assert set(quarantine["table"]) == {"yields"}
    assert quarantine["reasons"].str.contains("expect_column_values_to_be_between").all()
    assert quarantine["reasons"].str.contains("9999").all()
    assert rows(workspace, "yields", ["park"])["energy"].max() < 9999


def test_a_critical_failure_leaves_the_table_and_stops_what_follows(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    before = {table: version(workspace, table) for table in ("turbine_daily", "park_wind")}
    suite = second / "include/projects/wind_parks/expectations/turbine_daily.yaml"
    suite.write_text(suite.read_text().replace("max_value: 24", "max_value: 2"))
    with pytest.raises(GateError, match=re.escape("wind_parks.turbine_daily")):
        refresh(workspace, "2024-01-12")
    assert version(workspace, "turbine_daily") == before["turbine_daily"]
    assert version(workspace, "park_wind") > before["park_wind"]  # it does not depend on it
    suite.write_text(suite.read_text().replace("max_value: 2}", "max_value: 24}"))
    refresh(workspace, "2024-01-12")
    assert rows(workspace, "turbine_daily", DAILY)["event_time"].max() == pd.Timestamp("2024-01-12", tz="UTC")


def test_whatever_stops_a_table_the_others_go_on_and_all_that_was_stopped_is_said(
    make_workspace: Make, second: Path
) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    before = version(workspace, "park_wind")
    declaration = second / "include/projects/wind_parks/project.yaml"
    declaration.write_text(declaration.read_text().replace("mean_energy: double", "mean_energy: float"))
    with pytest.raises(TableError, match="mean_energy is .*double"):
        refresh(workspace, "2024-01-12")
    assert version(workspace, "park_wind") > before
    corrupt(second, "conditions", "frame['wind'] = 'much'")
    with pytest.raises(GateError, match="(?s)wind_parks.conditions stops.*mean_energy is .*double"):
        refresh(workspace, "2024-01-14")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("frame = frame.drop(columns='energy')", "energy"),
        ("frame['energy'] = 'much'", "energy"),
        ("frame = pd.concat([frame, frame.head(3)])", "park=north"),
        ("frame['known_at'] = frame['known_at'] + pd.Timedelta(days=9)", "known_at"),
    ],
)
def test_broken_source_data_is_refused_and_nothing_lands(
    make_workspace: Make, second: Path, change: str, message: str
) -> None:
    corrupt(second, "yields", change)
    workspace = make_workspace(second)
    with pytest.raises((TableError, GateError), match=message):
        refresh(workspace, "2024-01-10")
    assert workspace.addresses.find(f"{PROJECT}.yields") is None


def test_null_keys_go_to_quarantine(make_workspace: Make, second: Path) -> None:
    corrupt(second, "yields", "frame.loc[frame.index[3], 'park'] = None")
    workspace = make_workspace(second)
    refresh(workspace, "2024-01-10")
    assert len(rows(workspace, "quarantine", ["keys"])) == 1


@pytest.mark.parametrize("as_of", ["yesterday", "2013-02-30", "2999-01-01"])
def test_an_as_of_that_cannot_be_is_refused(as_of: str) -> None:
    from penstock.clock import parse_as_of

    with pytest.raises(ClockError, match="as_of"):
        parse_as_of(as_of)


def test_an_as_of_after_the_end_of_the_data_lands_the_rest_and_then_nothing(make_workspace: Make, second: Path) -> None:
    workspace = make_workspace(second)
    refresh(workspace, "2025-01-01")
    said = dict(refresh(workspace, "2025-06-01"))
    assert "nothing became known" in said["land.yields"]


def corrupt(root: Path, function: str, change: str) -> None:
    """Lets a source function break its rows."""
    path = root / "include/projects/wind_parks/sources.py"
    path.write_text(
        path.read_text()
        + f"\n\n_sound = {function}\n\n\ndef {function}(after, until):\n    frame = _sound(after, until)\n"
        + f"    {change}\n    return frame\n"
    )
