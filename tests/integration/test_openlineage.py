"""OpenLineage: a task that Airflow runs tells which table versions it read and wrote."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from penstock.home import home
from penstock.workspace import Connections
from tests.integration.refreshing import PROJECT, copy_root

DAG = """
import pendulum
from airflow.sdk import DAG
from penstock.operators.features import (
    LandSourceOperator, MergeBatchOperator, StageFeatureTableOperator, ValidateBatchOperator,
)

with DAG("yields", start_date=pendulum.datetime(2024, 1, 1, tz="UTC"), schedule=None) as dag:
    common = {"project": "wind_parks", "as_of": "2024-01-04", "root": ROOT}
    land = LandSourceOperator(task_id="land", source="yields", **common)
    staged = StageFeatureTableOperator(task_id="stage", table="turbine_daily", **common)
    checked = ValidateBatchOperator(task_id="validate", batch=staged.output, **common)
    merged = MergeBatchOperator(task_id="merge", checked=checked.output, **common)
    again = LandSourceOperator(task_id="again", source="yields", trigger_rule="all_done", **common)
    land >> staged
    merged >> again

if __name__ == "__main__":
    dag.test()
"""


@pytest.fixture(scope="module")
def events(stack: Connections, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The event of each task's success, by task; written to a file by Airflow's provider."""
    folder = tmp_path_factory.mktemp("openlineage")
    root = copy_root(folder)
    dag = folder / "dags" / "yields.py"
    dag.parent.mkdir()
    dag.write_text(f"ROOT = {str(root)!r}\n{DAG}")
    transport = {"type": "file", "log_file_path": str(folder / "events.json"), "append": True}
    settings = root / "include/environments/dev.yaml"
    settings.write_text(settings.read_text().replace("${PENSTOCK_HOME}/dev/lakehouse", str(folder / "lakehouse")))
    environment = {
        **os.environ, "AIRFLOW_HOME": str(folder / "airflow"), "PENSTOCK_ENV": "dev", "PENSTOCK_ROOT": str(root),
        "PENSTOCK_HOME": str(home()), "AIRFLOW__CORE__DAGS_FOLDER": str(dag.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
    }  # fmt: skip
    for command in ([sys.executable, "-m", "airflow", "db", "migrate"], [sys.executable, str(dag)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder / "log").write_text(done.stdout + done.stderr)
    found = [json.loads(line) for line in (folder / "events.json").read_text().splitlines()]
    return {
        event["job"]["name"].partition(".")[2]: event
        for event in found
        if event["eventType"] == "COMPLETE" and "." in event["job"]["name"]
    }


def named(datasets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Datasets by the name that people use."""
    return {item["facets"]["symlinks"]["identifiers"][0]["name"]: item for item in datasets}


def test_landing_writes_a_version_of_its_source(events: dict[str, dict[str, Any]]) -> None:
    written = named(events["land"]["outputs"])[f"{PROJECT}.yields"]
    assert (written["namespace"], written["name"].endswith("/lakehouse/wind_parks/yields")) == ("file", True)
    assert written["facets"]["version"]["datasetVersion"] == "1"
    fields = {field["name"]: field["type"] for field in written["facets"]["schema"]["fields"]}
    assert fields["energy"] == "double"


def test_a_merge_tells_its_inputs_at_their_versions_and_the_columns_behind_columns(
    events: dict[str, dict[str, Any]],
) -> None:
    event = events["merge"]
    assert named(event["inputs"])[f"{PROJECT}.yields"]["facets"]["version"]["datasetVersion"] == "1"
    written = named(event["outputs"])[f"{PROJECT}.turbine_daily"]
    behind = written["facets"]["columnLineage"]["fields"]["mean_energy"]["inputFields"]
    assert [(field["name"].rpartition("/")[2], field["field"]) for field in behind] == [("yields", "energy")]


def test_a_skipped_task_claims_nothing(events: dict[str, dict[str, Any]]) -> None:
    assert not events.get("again", {}).get("outputs")
