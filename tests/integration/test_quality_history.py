"""Batches held against the table's own history: collapses are found, ordinary variation is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import GateError
from penstock.quality.gate import check_batch
from penstock.quality.report import latest_verdict
from penstock.quality.statistics import measure, read_statistics
from penstock.spec.project import Column
from penstock.workspace import Workspace
from tests.integration.test_quarantine_release import land, refresh, workspace  # noqa: F401  (a fixture)

PROJECT, TABLE = "shop", "orders"
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 10
COLUMNS = {
    "order_id": Column(type="int"), "shop": Column(type="string"), "amount": Column(type="double"),
    "known_at": Column(type="timestamp"),
}  # fmt: skip


def day(number: int, rows: int = 200, null_share: float = 0.02, late_hours: float = 0, factor: float = 1):
    """A day of orders; volume, nulls and amounts vary by themselves."""
    rng = np.random.default_rng(number)
    count = int(rows * rng.uniform(0.95, 1.05))
    amount = rng.uniform(10, 100, count) * factor
    amount[rng.random(count) < null_share] = np.nan
    end = START + timedelta(days=number) - timedelta(hours=late_hours)
    return pd.DataFrame(
        {
            "order_id": pd.array(range(count), dtype="Int32"), "shop": rng.choice(["a", "b"], count), "amount": amount,
            "known_at": pd.date_range(end=end, periods=count, freq="1min", tz="UTC").as_unit("us"),
        }
    )  # fmt: skip


@pytest.fixture
def check(workspace: Workspace) -> Callable[..., tuple[str, dict]]:  # noqa: F811
    """Checks the batch of a day; answers the outcome and the details of the history's checks."""

    def run(number: int, frame: pd.DataFrame, history: str = "{volume: warning, freshness: warning, nulls: warning}"):
        folder = workspace.project(PROJECT).folder
        suite = "expectations:\n  - {type: expect_column_values_to_not_be_null, kwargs: {column: shop}}\n"
        Path(folder / "expectations/orders.yaml").write_text(f"history: {history}\n{suite}", encoding="utf-8")
        as_of = START + timedelta(days=number)
        check_batch(
            workspace,
            workspace.project(PROJECT),
            TABLE,
            frame,
            COLUMNS,
            ["order_id"],
            "expectations/orders.yaml",
            as_of,
        )
        verdict = latest_verdict(workspace, PROJECT, TABLE, as_of)["verdict"]
        return verdict["outcome"], {
            item["name"]: item["detail"] for item in verdict["checks"] if item["name"].startswith("history_")
        }

    return run


def test_ordinary_days_pass_and_the_first_ones_are_not_judged(check):
    said = [check(number, day(number)) for number in range(1, DAYS + 1)]
    assert [outcome for outcome, _ in said] == ["pass"] * DAYS
    assert said[6][1]["history_volume"] == "6 earlier batches, judged from 7 on"
    assert said[9][1]["history_volume"] == "volume is as usual in the last 9 batches"


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"rows": 100}, "volume", "rows a day"),
        ({"rows": 400}, "volume", "rows a day"),
        ({"null_share": 0.3}, "nulls", "share of nulls in amount 0.3"),
        ({"late_hours": 30}, "freshness", "hours from the newest row to as_of 30, usual 0"),
    ],
)
def test_a_collapse_is_found_by_its_kind_alone(check, change, kind, said):
    for number in range(1, DAYS + 1):
        check(number, day(number))
    outcome, details = check(DAYS + 1, day(DAYS + 1, **change))
    assert outcome == "warn"
    assert f"{kind} is unusual against the last 10 batches: {said}" in details[f"history_{kind}"]
    assert sum("unusual" in detail for detail in details.values()) == 1


def test_a_critical_kind_stops_the_table_and_a_stopped_batch_is_no_history(check, workspace):  # noqa: F811
    critical = "{range: critical, batches: 8, minimum_batches: 5}"
    for number in range(1, DAYS + 1):
        check(number, day(number), critical)
    for _ in range(2):
        with pytest.raises(GateError, match=r"range is unusual against the last 8 batches: greatest amount .*, usual"):
            check(DAYS + 1, day(DAYS + 1, factor=100), critical)
    past = read_statistics(workspace, PROJECT, TABLE, START + timedelta(days=99), 99)
    assert past["as_of"].nunique() == DAYS
    assert check(DAYS + 1, day(DAYS + 1), critical)[0] == "pass"
    again = read_statistics(workspace, PROJECT, TABLE, START + timedelta(days=99), 99)
    assert list(again.groupby("as_of").size()) == [len(COLUMNS) + 1] * (DAYS + 1)


def test_two_days_in_one_batch_are_the_usual_volume(check):
    for number in range(1, DAYS + 1):
        check(number, day(number))
    both = pd.concat([day(DAYS + 1), day(DAYS + 2)], ignore_index=True)
    both["order_id"] = pd.array(range(len(both)), dtype="Int32")
    assert check(DAYS + 2, both)[0] == "pass"


def test_a_refresh_measures_by_the_event_time_of_its_table(workspace):  # noqa: F811
    suite = workspace.project(PROJECT).folder / "expectations/shop_daily.yaml"
    suite.write_text(f"history: {{volume: warning}}\n{suite.read_text()}", encoding="utf-8")
    land(workspace, "2024-01-02")
    refresh(workspace, "2024-01-02T12:00")
    found = read_statistics(workspace, PROJECT, "shop_daily", START + timedelta(days=9), 9).set_index("column")
    assert (found.loc["", "rows"], found.loc["", "lag_hours"]) == (2, 12.0)
    assert tuple(found.loc["amount", ["minimum", "maximum", "mean"]]) == (10.0, 20.0, 15.0)
    assert set(found["outcome"]) == {"warn"}


def test_spark_measures_the_same(workspace):  # noqa: F811
    frame = day(3)
    as_of = START + timedelta(days=3)
    with workspace.spark() as spark:
        types = ", ".join(f"{name} {column.type}" for name, column in COLUMNS.items())
        remote = spark.createDataFrame(frame.astype(object).where(frame.notna(), None), types)
        by_spark = measure(remote, COLUMNS, "known_at", as_of, START)
    by_pandas = measure(frame, COLUMNS, "known_at", as_of, START)
    assert (by_spark.rows, by_spark.rows_per_day, by_spark.lag_hours) == (
        by_pandas.rows, by_pandas.rows_per_day, by_pandas.lag_hours,
    )  # fmt: skip
    for name, column in by_pandas.columns.items():
        assert vars(by_spark.columns[name]) == pytest.approx(vars(column))
