"""What a run's artifacts say decides nothing that training did not write into them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from penstock.errors import GateError, RegistryError, TableError
from penstock.monitoring.baseline import load_baseline
from penstock.registry.contest import Contest
from penstock.registry.promotion import promised_metrics, promote
from penstock.registry.reproduction import reproduce
from tests.integration.plant import MODEL, SECOND, Plant


@pytest.fixture
def version(plant: Plant) -> Iterator[int]:
    """A version of a run that its test may change."""
    made = plant.add("second")
    run_id = plant.registered.version(made).run_id
    before = {name: load_dict(f"runs:/{run_id}/{name}") for name in ("trained_model.json", "profile.json")}
    yield made
    for name, content in before.items():
        MlflowClient().log_dict(run_id, content, name)


def heuristic(plant: Plant, version: int) -> float:
    project = plant.workspace.project(plant.project)
    return float(Contest(plant.workspace, project, MODEL, version, None, SECOND, SECOND).heuristic[0])


def test_neither_the_heuristic_nor_the_promise_nor_the_record_is_what_somebody_wrote_into_a_run(
    plant: Plant, version: int
) -> None:
    run_id, client = plant.registered.version(version).run_id, MlflowClient()
    record, profile = (load_dict(f"runs:/{run_id}/{name}") for name in ("trained_model.json", "profile.json"))
    promised = promised_metrics(*plant.about, version)
    assert promised == profile["metrics"]
    client.log_dict(run_id, {**record, "label_mean": 0.999}, "trained_model.json")
    assert heuristic(plant, version) == record["label_mean"], "that which stands among the model's files"
    with pytest.raises(
        RegistryError, match=rf"not built again: trained_model.json of run {run_id} .* is not what training"
    ):
        reproduce(*plant.about, version)
    client.log_dict(run_id, {**profile, "metrics": {"log_loss": 9.0}}, "profile.json")
    before = plant.state
    said = rf"version {version} promises is not known: profile.json of run {run_id} .* was changed in MLflow"
    with pytest.raises(GateError, match=said):
        promote(*plant.about, version, "Ann", "because", {}, SECOND)
    with pytest.raises(TableError, match=f"profile.json of run {run_id}"):
        load_baseline(*plant.about, version)
    assert plant.state == before
    client.log_dict(run_id, dict(reversed(profile.items())), "profile.json")
    assert promised_metrics(*plant.about, version) == promised, "its content counts, not its layout"


def test_versions_from_before_anything_was_noted_are_read_as_they_are(plant: Plant, tmp_path: Path) -> None:
    def without_mean(folder: Path) -> None:
        file = folder / "extra_files/feature_spec.json"
        spec = json.loads(file.read_text())
        del spec["label_mean"]
        file.write_text(json.dumps(spec))

    old = plant.add_tampered(without_mean, tmp_path)
    run_id, client = plant.registered.version(old).run_id, MlflowClient()
    profile = load_dict(f"runs:/{plant.trained.versions['second'].run_id}/profile.json")
    client.log_dict(run_id, {"label_mean": 0.25}, "trained_model.json")
    client.log_dict(run_id, profile, "profile.json")
    assert heuristic(plant, old) == 0.25
    assert promised_metrics(*plant.about, old) == profile["metrics"]
    assert load_baseline(*plant.about, old).version == old
