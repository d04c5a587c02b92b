"""Entity rows that a person gives: the same moments, however they are given."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from penstock.features.given_entities import check_arrow, check_entities

CLOCKS_GO_BACK = [datetime(2013, 11, 3, hour, 30, tzinfo=UTC) for hour in (5, 6)]  # both are 01:30 in New York


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_moments_of_a_local_hour_that_comes_twice_stay_two(unit: str) -> None:
    given = pa.table({"id": [1, 2], "asked": pa.array(CLOCKS_GO_BACK, pa.timestamp(unit, "America/New_York"))})
    rows, said = check_arrow(given, "asked", None, "test")
    same, _ = check_entities(given.to_pandas(), "asked", None, "test")
    assert rows["asked"].type == pa.timestamp("us", "UTC")
    assert (rows["asked"].to_pylist(), said) == (CLOCKS_GO_BACK, [])
    assert rows.equals(same.cast(rows.schema))


def test_nanoseconds_are_cut_whatever_the_zone() -> None:
    moment = pd.Timestamp("2013-11-03T05:30:00.000000999Z").tz_convert("America/New_York")
    given = pa.table({"id": [1], "asked": pa.array([moment.value], pa.timestamp("ns", "America/New_York"))})
    rows, _ = check_arrow(given, "asked", None, "test")
    assert rows["asked"].to_pylist() == [CLOCKS_GO_BACK[0]]
