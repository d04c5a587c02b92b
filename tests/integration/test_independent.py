"""What Penstock wrote, recomputed by a script that knows nothing of it: DuckDB and plain MLflow, equal to 1e-9."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from penstock.runner import Request, run_pipeline
from penstock.workspace import Workspace
from tests.integration.refreshing import moment

PROJECT, MODEL, SHARED = "flight_delays", "late_arrival", "aviation"
TRAINED, SCORED = "2013-02-20", "2013-02-24T15:00"


@pytest.fixture(scope="module")
def loop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The reference project trained, promoted and scored on the real flights of January and February."""
    found = Workspace.open("dev")
    place = found.environment.lakehouse.model_copy(update={"root": str(tmp_path_factory.mktemp("lakehouse"))})
    limits = found.environment.limits.model_copy(update={"trials": 1})
    environment = found.environment.model_copy(update={"lakehouse": place, "limits": limits})
    workspace = found.with_(environment=environment, connections=stack)
    for pipeline, project, as_of in (
        ("feature_refresh", SHARED, TRAINED), ("feature_refresh", PROJECT, TRAINED), ("training", PROJECT, TRAINED),
        ("feature_refresh", SHARED, SCORED), ("feature_refresh", PROJECT, SCORED), ("batch_inference", PROJECT, SCORED),
    ):  # fmt: skip
        run_pipeline(workspace, pipeline, Request(project, MODEL, moment(as_of)), lambda *_: None)
    return workspace


def test_features_training_set_and_predictions_equal_an_independent_computation(loop: Workspace) -> None:
    lakehouse = loop.environment.lakehouse.root
    script = Path(__file__).resolve().parents[1] / "independent/recompute.py"
    known = loop.resolved
    login = {
        "MLFLOW_TRACKING_URI": known.mlflow_uri, "MLFLOW_TRACKING_USERNAME": known.mlflow_username or "",
        "MLFLOW_TRACKING_PASSWORD": known.mlflow_password or "", "PYTHONPATH": "",
    }  # fmt: skip
    answer = subprocess.run(
        [sys.executable, str(script), lakehouse, f"{SCORED}+00:00", f"{TRAINED} 00:00+00:00", f"{PROJECT}.{MODEL}"],
        env={**os.environ, **login}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    report = json.loads(answer.stdout.strip().splitlines()[-1])
    assert report.pop("rows") > 3000
    assert set(report) == {"carrier_daily", "route_daily", "origin_weather", "aircraft", "training_set", "predictions"}
    assert max(report.values()) < 1e-9, report


def test_no_feature_is_later_than_its_prediction_time_and_no_label_later_than_as_of(loop: Workspace) -> None:
    from deltalake import DeltaTable

    rows = DeltaTable(loop.addresses.readable(f"{PROJECT}.{MODEL}_training_set")).to_pyarrow_table().to_pandas()
    assert rows["label_known_at"].max() <= pd.Timestamp(TRAINED, tz="UTC")
    assert len(rows) > 40_000


def test_a_training_set_at_t_equals_one_built_later_as_of_t(loop: Workspace) -> None:
    from penstock.features.training_set import TrainingSet, build_training_set, read_training_set

    then = _read(loop, f"{MODEL}_training_set")
    later: TrainingSet = build_training_set(loop, PROJECT, MODEL, moment(TRAINED), table="rebuilt")
    assert later.rows == len(then)
    rebuilt = read_training_set(later)
    keys = ["scheduled_departure", "carrier", "flight", "origin"]
    pd.testing.assert_frame_equal(
        then.sort_values(keys, ignore_index=True), rebuilt.sort_values(keys, ignore_index=True)[list(then.columns)]
    )


def test_a_row_that_became_known_after_t_changes_nothing(loop: Workspace) -> None:
    from deltalake import DeltaTable

    from penstock.features.training_set import build_training_set, read_training_set

    before = read_training_set(build_training_set(loop, PROJECT, MODEL, moment(TRAINED), table="before"))
    for table, column, value in (
        (f"{PROJECT}.flight_outcomes", "known_at", "arr_delay"),
        (f"{PROJECT}.carrier_daily", "event_time", "share_late"),
        (f"{SHARED}.weather", "known_at", "temp"),
    ):
        found = DeltaTable(loop.addresses.readable(table))
        later = f"{column} > arrow_cast('{TRAINED}T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')"
        changed = found.update(predicate=later, updates={value: "-777.0"})
        assert changed["num_updated_rows"] > 0
    after = read_training_set(build_training_set(loop, PROJECT, MODEL, moment(TRAINED), table="after"))
    pd.testing.assert_frame_equal(before, after)


def _read(workspace: Workspace, table: str) -> pd.DataFrame:
    from penstock.lakehouse.small_tables import read

    return read(workspace.addresses.readable(f"{PROJECT}.{table}"))
