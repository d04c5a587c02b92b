"""The hook takes Spark and MLflow from Airflow's connections: both, or none."""

import json
import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

from penstock.errors import SpecError
from penstock.hooks.workspace import WorkspaceHook
from penstock.spec.environment import Environment
from penstock.spec.loading import load_environment

REPOSITORY = Path(__file__).resolve().parents[2]
GIVEN = {
    "penstock_spark": {"conn_type": "generic", "host": "sc://spark", "port": 15002},
    "penstock_mlflow": {"conn_type": "http", "host": "mlflow", "port": 5000},
}


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> Environment:
    for name in GIVEN:
        monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}", raising=False)
    return load_environment(REPOSITORY, "dev")


def give(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(GIVEN[name]))


def test_both_connections_count_and_without_any_the_environment_does(
    dev: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = WorkspaceHook(root=REPOSITORY)
    assert hook.connections(dev) is None
    give(monkeypatch, *GIVEN)
    found = hook.connections(dev)
    assert found is not None
    assert (found.spark_url, found.mlflow_uri) == ("sc://spark:15002", "http://mlflow:5000")


@pytest.mark.parametrize("given", GIVEN)
def test_one_connection_alone_is_an_error_that_names_the_other(
    dev: Environment, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (missing,) = GIVEN.keys() - {given}
    give(monkeypatch, given)
    with pytest.raises(SpecError, match=f"the connection {given}, but no {missing}: .*environments/dev.yaml"):
        WorkspaceHook(root=REPOSITORY).connections(dev)
