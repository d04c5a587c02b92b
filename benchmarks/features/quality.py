"""Twenty expectations on a million rows, with the bad rows' keys, against one plain Spark aggregation.

Both read the same Delta table and count the same failures; only the gate tells which rows failed, and why.
`SCALE=0.01 python -m benchmarks.features.quality` tries it out on fewer rows.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROWS = 1_000_000
BAR = 3.0
REPEATS = 3
KEYS = ["station", "hour"]
BOUNDS = {
    "temp": (-30, 120), "dewp": (-60, 95), "humid": (0, 100), "wind": (0, 253), "precip": (0, 12.5),
    "pressure": (870, 1086), "visib": (0, 10), "hour_of_day": (0, 23), "minute": (0, 59), "distance": (10, 10_000),
}  # fmt: skip
EXPECTATIONS: list[tuple[str, dict[str, Any]]] = [
    *(
        ("expect_column_values_to_be_between", {"column": name, "min_value": low, "max_value": high})
        for name, (low, high) in BOUNDS.items()
    ),
    *(("expect_column_values_to_not_be_null", {"column": name}) for name in ("humid", "temp", "carrier", "distance")),
    ("expect_column_values_to_be_in_set", {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]}),
    ("expect_column_values_to_be_in_set", {"column": "carrier", "value_set": ["AA", "B6", "DL", "UA"]}),
    ("expect_column_values_to_match_regex", {"column": "tailnum", "regex": "^[A-Z0-9]{4,6}$"}),
    ("expect_column_values_to_match_regex", {"column": "carrier", "regex": "^[A-Z0-9]{2}$"}),
    ("expect_column_value_lengths_to_equal", {"column": "carrier", "value": 2}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "temp", "column_B": "dewp"}),
]  # fmt: skip


def make_rows(rows: int) -> pd.DataFrame:
    """Weather at stations; three rows in a thousand fail something."""
    rng = np.random.default_rng(1)
    hours = pd.date_range("2020-01-01", periods=-(-rows // 1000), freq="h", tz="UTC").as_unit("us")
    frame = pd.DataFrame(
        {
            "station": np.arange(rows) % 1000, "hour": hours[np.arange(rows) // 1000],
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows), "carrier": rng.choice(["AA", "B6", "DL", "UA"], rows),
            "tailnum": np.char.add("N", rng.integers(1000, 9999, rows).astype(str)),
            "dewp": rng.uniform(0, 40, rows), "temp": rng.uniform(41, 100, rows), "humid": rng.uniform(0, 100, rows),
            "wind": rng.uniform(0, 50, rows), "precip": rng.uniform(0, 1, rows), "visib": rng.uniform(0, 10, rows),
            "pressure": rng.uniform(900, 1050, rows), "hour_of_day": rng.integers(0, 24, rows),
            "minute": rng.integers(0, 60, rows), "distance": rng.uniform(100, 5000, rows),
        }
    )  # fmt: skip
    broken = {"temp": 999.0, "humid": np.nan, "origin": "XXX", "tailnum": "bad!", "dewp": 90.0}
    for name, value in broken.items():
        frame.loc[rng.choice(rows, max(1, rows // 2000), replace=False), name] = value
    return frame


def run() -> list[dict[str, Any]]:
    """Measures both, the best of three each; checks that they count the same."""
    from deltalake import write_deltalake

    from benchmarks.features.server import spark_server

    rows = int(ROWS * float(os.environ.get("SCALE", "1")))
    folder = Path(tempfile.mkdtemp(prefix="penstock-quality-"))
    try:
        write_deltalake(str(folder / "table"), make_rows(rows))
        with spark_server("2g") as workspace, workspace.spark() as spark:
            gate, found = _best(lambda: _gate(folder))
            reference, counted = _best(lambda: _aggregate(spark, str(folder / "table")))
        assert found == counted, f"the gate counts {found}, Spark {counted}"
    finally:
        shutil.rmtree(folder)
    ratio = gate / reference
    return [
        {
            "work": f"20 expectations on {rows:,} rows, with the bad rows' keys", "penstock_seconds": gate,
            "reference": "one Spark aggregation of the same counts", "reference_seconds": reference, "ratio": ratio,
            "bar": f"<= {BAR:g}", "met": ratio <= BAR,
            "note": f"{sum(found[1:]):,} failures found; reading the Delta table included in both",
        }
    ]  # fmt: skip


def _best(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    """Seconds of the fastest of three, after one to warm up; and the answer."""
    found = work()
    seconds = []
    for _ in range(REPEATS):
        begin = perf_counter()
        work()
        seconds.append(perf_counter() - begin)
    return min(seconds), found


def _gate(folder: Path) -> list[int]:
    """Reads the table as a refresh does, and judges it; rows, then the failures of each expectation."""
    from penstock.lakehouse.small_tables import read
    from penstock.quality.suite import load_suite
    from penstock.quality.validation import validate_batch

    suite = folder / "suite.yaml"
    items = [{"type": kind, "kwargs": kwargs, "severity": "warning"} for kind, kwargs in EXPECTATIONS]
    suite.write_text(yaml.safe_dump({"expectations": items}), encoding="utf-8")
    result = validate_batch(read(str(folder / "table")), load_suite(suite), KEYS, "weather")
    assert all(set(row.keys) == set(KEYS) and row.reasons for row in result.bad_rows)
    judged = [check for check in result.verdict.checks if "line" in check.evidence]
    return [result.rows, *(check.evidence.get("unexpected_count", 0) for check in judged)]


def _aggregate(spark: Any, path: str) -> list[int]:
    """The same counts by one Spark aggregation."""
    from pyspark.sql.connect import functions as F

    failures = [F.count(F.when(F.expr(_failure(kind, kwargs)), 1)).alias(f"c{place}")
                for place, (kind, kwargs) in enumerate(EXPECTATIONS)]  # fmt: skip
    row = spark.read.format("delta").load(path).agg(F.count(F.lit(1)).alias("rows"), *failures).collect()[0]
    return [int(value) for value in row]


def _failure(kind: str, kwargs: dict[str, Any]) -> str:
    """A SQL condition that holds for the rows that fail."""
    name = kwargs.get("column")
    if kind.endswith("to_be_between"):
        return f"NOT isnan({name}) AND ({name} < {kwargs['min_value']} OR {name} > {kwargs['max_value']})"
    if kind.endswith("not_be_null"):
        return f"{name} IS NULL" if name == "carrier" else f"{name} IS NULL OR isnan({name})"
    if kind.endswith("in_set"):
        return f"NOT {name} IN ({', '.join(repr(value) for value in kwargs['value_set'])})"
    if kind.endswith("regex"):
        return f"NOT {name} RLIKE '{kwargs['regex']}'"
    if kind.endswith("to_equal"):
        return f"length({name}) <> {kwargs['value']}"
    return f"{kwargs['column_A']} <= {kwargs['column_B']}"


if __name__ == "__main__":
    for line in run():
        print(line)
