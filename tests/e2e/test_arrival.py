"""Tables that others fill: new versions start a refresh; a sensor waits for one without holding a worker."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from penstock.airflow_rest import DagRun
from penstock.clock import now
from penstock.workspace import Workspace
from tests.e2e.conftest import RunningAirflow
from tests.integration.spot_prices import add_project, write_day

REFRESH, OWN = "spot_prices.feature_refresh", "waits_for_prices"
WAITING = """
from airflow.sdk import DAG, Param
from penstock.sensors.table_version import TableVersionSensor

with DAG("waits_for_prices", schedule=None, params={"since": Param(0, type="integer")}):
    TableVersionSensor(task_id="wait", table="spot_prices.prices", since="{{ params.since }}", every=1)
"""


@pytest.fixture(scope="module")
def project(airflow: RunningAirflow) -> Iterator[str]:
    """A project of features only, whose raw table does not exist yet; and a DAG that waits for that table."""
    folder = add_project(airflow.root)
    own = airflow.root / "dags/own.py"
    own.write_text(WAITING)
    airflow.wait(lambda: {REFRESH, OWN} <= set(airflow.client.dag_ids()), "the new DAGs", 120)
    yield "spot_prices"
    own.unlink()
    (folder / "project.yaml").rename(folder / "project.gone")


@pytest.fixture(scope="module")
def raw(airflow: RunningAirflow, project: str) -> str:
    """The path of the raw table."""
    return Workspace.open("dev", airflow.root).addresses.writable(f"{project}.prices")


def test_a_new_version_starts_the_refresh(airflow: RunningAirflow, raw: str) -> None:
    prices = str(Path(raw).with_name("price_daily"))
    for number, (day, price) in enumerate([("2024-05-01", 40.0), ("2024-05-02", 60.0)], start=1):
        since = now()
        write_day(raw, day, price)
        run = airflow.wait(_started(airflow, since), f"the refresh after {day}", 90)
        assert airflow.finish(run).state == "success"
        airflow.settle(since)
        rows = DeltaTable(prices).to_pyarrow_table().to_pandas().sort_values("event_time")
        assert rows["mean_price"].tolist() == [40.0, 60.0][:number]


def test_without_news_nothing_starts(airflow: RunningAirflow, raw: str) -> None:
    assert DeltaTable(raw).version() == 1
    runs = airflow.client.runs(dag_id=REFRESH)
    time.sleep(5)  # five looks of the watcher
    assert airflow.client.runs(dag_id=REFRESH) == runs


def test_a_sensor_waits_in_the_triggerer_until_the_version_is_there(airflow: RunningAirflow, raw: str) -> None:
    run = airflow.client.trigger(OWN, {"since": DeltaTable(raw).version()})
    airflow.wait(lambda: airflow.client.tasks(run).get("wait") == "deferred", "the sensor to be deferred", 60)
    write_day(raw, "2024-05-03", 50.0)
    assert airflow.finish(run).state == "success"


def _started(airflow: RunningAirflow, since: object) -> Callable[[], DagRun | None]:
    return lambda: next(iter(airflow.client.runs(since, dag_id=REFRESH)), None)


def test_the_stream_catches_up_and_ends(airflow: RunningAirflow, project: str) -> None:
    assert airflow.run(f"{project}.feature_stream").state == "success"
    again = airflow.run(f"{project}.feature_stream")
    assert set(airflow.client.tasks(again).values()) == {"skipped"}
