"""Small tables, read in process by conditions on their columns."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import create_if_missing, exact_frame, read_arrow, upsert
from penstock.spec.project import Column

COLUMNS = {name: Column(type=kind) for name, kind in {"model": "string", "day": "timestamp", "rows": "bigint"}.items()}
DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)]


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_of_several_models_in_one_file_are_told_apart(tmp_path: Path, compacted: bool) -> None:
    path = str(tmp_path / "table")
    create_if_missing(path, COLUMNS, keys=["model", "day"], description="d")
    for models in (["churn", "demand", "churn"], ["churn", "demand", "delay"]):
        days = pa.array(DAYS, pa.timestamp("us", "UTC"))
        upsert(path, pa.table({"model": models, "day": days, "rows": [1, 2, 3]}), ["model", "day"], record(DAYS[0]))
    if compacted:
        DeltaTable(path).optimize.compact()
    assert read_arrow(path, filters=[("model", "=", "churn")])["rows"].to_pylist().count(1) == 1
    newest = read_arrow(path, columns=["rows"], filters=[("model", "in", ["churn", "delay"]), ("day", ">", DAYS[1])])
    assert sorted(newest["rows"].to_pylist()) == [3, 3]
    assert newest.column_names == ["rows"]


def test_a_frame_says_what_its_table_says() -> None:
    large = 2**53 + 1  # the first whole number that a float does not hold
    frame = exact_frame(pa.table({"a": [large, None], "b": [large, 1], "c": ["x", None]}))
    assert frame["a"].tolist()[0] == large
    assert frame["a"].isna().tolist() == [False, True]
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "int64", "object"]
