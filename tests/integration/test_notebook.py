"""The notebook of the docs runs as it stands, in a lakehouse of its own."""

import uuid
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from penstock.features.landing import land_source
from penstock.features.merge import merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.workspace import Workspace
from tests.integration.refreshing import moment

PROJECT = "flight_delays"
AS_OF = moment("2013-01-12")


def outputs(notebook: nbformat.NotebookNode) -> str:
    """Every text that the notebook's cells printed or showed."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(shown)


def test_the_notebook_runs_from_exploring_to_lineage(
    make_workspace: Callable[..., Workspace], repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace = make_workspace()
    for source in ("flights", "flight_outcomes"):
        land_source(workspace, PROJECT, source, AS_OF)
    merge_batch(workspace, validate_batch(workspace, stage_table(workspace, PROJECT, "carrier_daily", AS_OF)))
    notebook = nbformat.read(repository / "docs/tutorial/feature_store.ipynb", as_version=4)
    assert not outputs(notebook), "the notebook is kept without outputs"
    model = f"exploration_{uuid.uuid4().hex[:8]}"  # the registry may be shared with others
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = f'PROJECT = "{PROJECT}"\nMODEL = "{model}"'
    monkeypatch.setenv("PENSTOCK_LAKEHOUSE_ROOT", workspace.environment.lakehouse.root)
    monkeypatch.setenv("PENSTOCK_ROOT", str(repository))
    try:
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
    finally:
        forget(workspace, f"{PROJECT}.{model}")
    said = outputs(notebook)
    assert "mean_dep_delay is a double, and a string is given" in said
    assert "hold_out_roc_auc" in said
    assert "flight_delays.flight_outcomes@1 (raw table)  <- made from" in said
    assert f"flight_delays.congestion is needed by model version flight_delays.{model}/1" in said


def forget(workspace: Workspace, name: str) -> None:
    from mlflow import MlflowClient

    workspace.mlflow()
    client = MlflowClient()
    for found in client.search_registered_models(f"name = '{name}'"):
        client.delete_registered_model(found.name)
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        client.delete_experiment(experiment.experiment_id)
