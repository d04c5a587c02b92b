"""The contract of model code with each library: tuned, trained, registered, through the gates, and scored."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from penstock.errors import ServiceError
from penstock.features.training_set import TrainingSet, build_training_set
from penstock.gates import Check, Outcome
from penstock.inference.batch import score_batch
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance.gate import open_subject
from penstock.registry.compliance.registered import CHECKS
from penstock.registry.stages import current_production
from penstock.runner import Request, run_pipeline
from penstock.training.errors import ScoringError
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.model_files import EXAMPLE_ROWS
from penstock.training.model_folder import ModelFiles
from penstock.training.profile import profile_model
from penstock.training.register import register_model
from penstock.training.scoring import load_scorer, load_scorer_from
from penstock.training.serialisation import runs_code
from penstock.training.train import train_model
from penstock.workspace import Connections, Workspace
from tests.integration.refreshing import copy_root, moment, refresh, rows

PROJECT = "library_parks"
AS_OF, LATER = "2024-02-10", "2024-02-11"
LIBRARIES = {
    "sklearn": {"search": {"C": {"float": [0.1, 10.0], "log": True}}},
    "lightgbm": {"search": {"num_leaves": {"int": [4, 15]}}},
    "xgboost": {"search": {"max_depth": {"int": [2, 5]}}},
    "pytorch": {"parameters": {"learning_rate": 0.01}, "search": {"learning_rate": {"float": [0.003, 0.03]}}},
    "spark": {"parameters": {"maxIter": 10}, "search": {"regParam": {"float": [0.0, 0.1]}}},
}
REQUIREMENTS = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "pytorch": "torch", "spark": "pyspark"}


@pytest.fixture(scope="module")
def parks(stack: Connections, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The second project with a model for each library, refreshed until a day after as_of."""
    folder = tmp_path_factory.mktemp("libraries")
    root = copy_root(folder)
    project = root / "include/projects" / PROJECT
    (root / "include/projects/wind_parks").rename(project)
    (project / "models/libraries.py").write_text(Path(__file__).with_name("library_models.py").read_text())
    declaration = yaml.safe_load((project / "project.yaml").read_text())
    energy = declaration["models"].pop("energy")
    declaration["name"] = PROJECT
    declaration["models"] = {f"by_{name}": _model(energy, name) for name in LIBRARIES}
    (project / "project.yaml").write_text(yaml.safe_dump(declaration, sort_keys=False))
    found = Workspace.open("dev", root)
    place = found.environment.lakehouse.model_copy(update={"root": str(folder / "lakehouse")})
    changes = {"lakehouse": place, "replay_clock": None}
    workspace = found.with_(environment=found.environment.model_copy(update=changes), connections=stack)
    refresh(workspace, AS_OF, PROJECT)
    return workspace


def _model(energy: dict, name: str) -> dict:
    training = {
        "function": f"models.libraries.with_{name}", "flavor": name, "metric": "log_loss", "tune": "7d",
        "hold_out": "7d", "trials": 2, "minimum_rows": 100,
        "requirements": [REQUIREMENTS.get(name, name), "pandas", "numpy"], **LIBRARIES[name],
    }  # fmt: skip
    return {
        **energy, "label": {"name": "much", "table": "yields", "expression": "energy > 30"}, "training": training,
        "promotion": {"metric": "log_loss", "minimum_rows": 50}, "monitoring": {},
    }  # fmt: skip


@pytest.fixture(scope="module")
def training_set(parks: Workspace) -> TrainingSet:
    """The rows are the same for all of the models."""
    return build_training_set(parks, PROJECT, "by_sklearn", moment(AS_OF))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_of_each_library_is_trained_passes_the_gates_and_scores(
    parks: Workspace, training_set: TrainingSet, library: str
) -> None:
    model = f"by_{library}"
    trained = train_model(parks, PROJECT, model, training_set)
    assert trained.tuning.trials == 2
    for step in (evaluate_model, explain_model, profile_model):
        found = step(parks, PROJECT, model, trained.run_id)
    assert found.metrics["log_loss"] < 0.3  # the mean label reaches 0.69
    version = register_model(parks, PROJECT, model, trained.run_id).version
    request = Request(PROJECT, model, moment(AS_OF), version, approved_by="engineer", reason=library)
    said: list[str] = []
    run_pipeline(parks, "model_promotion", request, lambda name, text, _: said.append(f"{name}: {text}"))
    assert current_production(parks, PROJECT, model) == version, said
    judged = RegisteredModel(parks, PROJECT, model).version(version).tags
    assert "does not bring" not in judged["penstock.compliance_reason"], "it declares what it imports"

    refresh(parks, LATER, PROJECT)
    batch = score_batch(parks, PROJECT, model, moment(LATER))
    keys = ["park", "turbine", "starts_at"]
    predictions = rows(parks, f"{model}_predictions", keys, PROJECT)
    assert len(predictions) == batch.rows > 0
    assert predictions["prediction"].between(0, 1).all()
    truth = predictions.merge(rows(parks, "yields", keys, PROJECT), on=keys)
    said_much = truth["prediction"] > 0.5
    assert (said_much == (truth["energy"] > 30)).mean() > 0.85


@pytest.fixture
def judge_other(parks: Workspace, tmp_path: Path) -> Callable[[str, str, str, str], Check]:
    """Registers a library's version once more, with one file of another text; answers one check of it."""

    def judge(library: str, file: str, text: str, name: str) -> Check:
        import mlflow

        registered = RegisteredModel(parks, PROJECT, f"by_{library}")
        version = current_production(parks, PROJECT, f"by_{library}")
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{registered.name}/{version}", dst_path=tmp_path))
        (folder / file).write_text(text)
        client = mlflow.MlflowClient()
        run = client.create_run(client.get_experiment_by_name("Default").experiment_id)
        client.log_artifacts(run.info.run_id, str(folder), "model")
        made = client.create_model_version(
            registered.name, f"{run.info.artifact_uri}/model", run.info.run_id, registered.version(version).tags
        )
        with open_subject(parks, PROJECT, f"by_{library}", int(made.version), moment(AS_OF)) as subject:
            return CHECKS[name].function(subject)

    return judge


def test_the_library_of_its_flavour_must_be_declared_though_mlflow_has_it(judge_other: Callable[..., Check]) -> None:
    found = judge_other("sklearn", "requirements.txt", "mlflow\npandas\nnumpy\n", "requirements")
    assert found.outcome is Outcome.WARN
    assert found.evidence["undeclared"] == ["scikit-learn"]


def test_of_a_spark_model_the_stored_example_is_scored(parks: Workspace, judge_other: Callable[..., Check]) -> None:
    version = current_production(parks, PROJECT, "by_spark")
    with open_subject(parks, PROJECT, "by_spark", version, moment(AS_OF)) as subject:
        found = CHECKS["input_example"].function(subject)
    assert (found.outcome, found.evidence["rows"]) == (Outcome.PASS, EXAMPLE_ROWS)
    found = judge_other("spark", "extra_files/example_rows.json", '[{"park": "north"}]', "input_example")
    assert found.outcome is Outcome.FAIL
    assert "it fails on the example stored with it" in found.detail


def test_the_same_rows_and_seed_make_the_same_pytorch_model(parks: Workspace, training_set: TrainingSet) -> None:
    first = train_model(parks, PROJECT, "by_pytorch", training_set)
    again = train_model(parks, PROJECT, "by_pytorch", training_set, parameters=first.parameters)
    assert again.run_id != first.run_id
    assert again.metrics == first.metrics


def test_a_pytorch_model_is_stored_without_pickle_and_asked_by_mlflow_alone(parks: Workspace) -> None:
    import mlflow
    import torch

    version = current_production(parks, PROJECT, "by_pytorch")
    scorer = load_scorer(parks, f"{PROJECT}.by_pytorch", version)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{PROJECT}.by_pytorch/{version}"))
    assert [file.name for file in (folder / "data").iterdir()] == ["model.pt2"]
    assert zipfile.is_zipfile(folder / "data/model.pt2")
    example = scorer.prepare(_example(folder))
    module = mlflow.pytorch.load_model(str(folder))
    with torch.no_grad():
        from penstock.training.matrices import to_matrix

        plain = module(torch.from_numpy(to_matrix(example))).numpy()
    np.testing.assert_allclose(scorer.predict(_example(folder)), plain, rtol=1e-6)
    signature = mlflow.models.Model.load(str(folder)).signature
    assert signature.inputs.input_names() == scorer.columns.names


def test_a_pickle_in_a_record_of_an_exported_program_is_not_run(parks: Workspace, tmp_path: Path) -> None:
    import mlflow
    import torch

    version = current_production(parks, PROJECT, "by_pytorch")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{PROJECT}.by_pytorch/{version}", dst_path=tmp_path))
    trace = tmp_path / "ran"
    crafted = io.BytesIO()
    torch.save(Command(trace), crafted)
    archive = folder / "data/model.pt2"
    with zipfile.ZipFile(archive) as zipped:
        records = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for name, content in records.items():
            zipped.writestr(name, crafted.getvalue() if "sample_inputs" in name else content)
    mlflow.set_experiment(f"{PROJECT}.by_pytorch")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "model")
    with pytest.raises(ScoringError, match="sample_inputs.* is not a pickle-free payload"):
        load_scorer_from(parks, f"runs:/{run.info.run_id}/model")
    assert not trace.exists()


class Command:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_the_stages_of_each_spark_model_are_known(parks: Workspace) -> None:
    import mlflow

    version = current_production(parks, PROJECT, "by_spark")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{PROJECT}.by_spark/{version}"))
    assert runs_code(ModelFiles(folder, "models:/by_spark/1")) == []


def test_a_spark_model_is_json_and_parquet_and_leaves_nothing_in_the_lakehouse(parks: Workspace) -> None:
    import mlflow

    version = current_production(parks, PROJECT, "by_spark")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{PROJECT}.by_spark/{version}"))
    assert mlflow.models.Model.load(str(folder)).flavors["spark"]["model_data"] == "sparkml"
    files = [
        file for file in (folder / "sparkml").rglob("*") if file.is_file() and not file.name.startswith((".", "_"))
    ]
    assert files
    assert {file.suffix for file in files} <= {".parquet", ".txt", ""}
    there = {item.name for item in Path(parks.environment.lakehouse.root, PROJECT).iterdir() if "_spark" in item.name}
    assert there == {"by_spark_predictions"}


def test_a_spark_model_answers_each_row_in_its_place(parks: Workspace) -> None:
    version = current_production(parks, PROJECT, "by_spark")
    scorer = load_scorer(parks, f"{PROJECT}.by_spark", version)
    frame = rows(parks, "by_spark_predictions", ["starts_at", "park", "turbine"], PROJECT)
    one_way = scorer.predict(frame)
    other_way = scorer.predict(frame[::-1])
    np.testing.assert_array_equal(one_way, other_way[::-1])
    np.testing.assert_allclose(one_way, frame["prediction"], rtol=1e-12)
    assert len(np.unique(one_way)) > 10
    scorer.native_model._open["model"].side.session.client.release_session()  # as a restarted server has
    with pytest.raises(ServiceError, match=r"Spark at .* went away"):
        scorer.predict(frame)


def _example(folder: Path):
    import pandas as pd

    return pd.DataFrame(json.loads((folder / "extra_files/example_rows.json").read_text()))
