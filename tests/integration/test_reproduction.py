"""A registered version is built again from its record: identical, or the difference and its likely cause."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from penstock.errors import RegistryError
from penstock.gates import Check, Outcome, Verdict
from penstock.registry.client import RegisteredModel
from penstock.registry.differences import Compared, check_predictions, check_surroundings
from penstock.registry.reproduction import TAG, reproduce
from penstock.training.surroundings import Surroundings
from penstock.training.train import train_model
from penstock.workspace import Connections
from tests.integration.plant import MODEL, SECOND, TREES, WEIGHTS, Trained, open_workspace, write_project

RESTLESS = "import os\n" + TREES.replace("**parameters}", '**parameters, "seed": int.from_bytes(os.urandom(3), "big"), '
                                         '"bagging_fraction": 0.5, "bagging_freq": 1}')  # fmt: skip


def number(trained: Trained, name: str) -> int:
    return int(trained.versions[name].version)


def found(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


@pytest.fixture
def restless(trained: Trained) -> Iterator[None]:
    """The training function draws lots of its own."""
    folder = trained.root / "include/projects" / trained.project
    before = (folder / "project.yaml").read_text()
    (folder / "models/restless.py").write_text(RESTLESS)
    (folder / "project.yaml").write_text(before.replace("models.trees.train", "models.restless.train"))
    yield
    (folder / "models/restless.py").unlink()
    (folder / "project.yaml").write_text(before)


def test_a_version_comes_out_identical_by_the_code_of_its_commit(trained: Trained, stack: Connections) -> None:
    workspace = open_workspace(trained.root, trained.lakehouse, stack)
    # the declaration has lost its lookups since: the commit has them
    assert not workspace.project(trained.project).model(MODEL).lookups
    verdict = reproduce(workspace, trained.project, MODEL, number(trained, "second"))
    assert verdict.outcome is Outcome.PASS, verdict.to_markdown()
    assert [check.name for check in verdict.checks] == ["code", "data", "surroundings", "predictions", "metrics"]
    assert "as it was at commit" in found(verdict, "code").detail
    assert "jobs@" in found(verdict, "data").detail
    assert found(verdict, "predictions").evidence["rows"] > 1000
    assert {"tune_log_loss", "log_loss", "roc_auc"} <= set(found(verdict, "metrics").evidence["again"])
    registered = RegisteredModel(workspace, trained.project, MODEL)
    version = registered.version(number(trained, "second"))
    assert version.tags[TAG].startswith("identical at ")


def test_another_file_of_the_project_that_changed_since_is_taken_back_with_the_commit(
    trained: Trained, stack: Connections
) -> None:
    folder = trained.root / "include/projects" / trained.project
    declared, weights = (folder / "project.yaml").read_text(), folder / "models/weights.json"
    write_project(trained.root, trained.project)  # code and declaration are those of the training again
    weights.write_text("{}")
    try:
        workspace = open_workspace(trained.root, trained.lakehouse, stack)
        verdict = reproduce(workspace, trained.project, MODEL, number(trained, "second"))
    finally:
        (folder / "project.yaml").write_text(declared)
        weights.write_text(WEIGHTS)
    assert "as it was at commit" in found(verdict, "code").detail
    assert verdict.outcome is Outcome.PASS, verdict.to_markdown()


def test_changes_that_were_not_committed_are_told_and_the_present_files_used_where_they_are_the_same(
    trained: Trained, stack: Connections
) -> None:
    workspace = open_workspace(trained.root, trained.lakehouse, stack)
    verdict = reproduce(workspace, trained.project, MODEL, number(trained, "lean"))
    assert verdict.outcome is Outcome.PASS, verdict.to_markdown()
    assert "files are those of the training" in found(verdict, "code").detail
    assert "-dirty" in found(verdict, "code").detail


def test_a_learner_that_draws_lots_differs_and_is_named_as_the_cause(
    trained: Trained, stack: Connections, restless: None
) -> None:
    workspace = open_workspace(trained.root, trained.lakehouse, stack)
    from penstock.features.training_set import build_training_set

    run = train_model(workspace, trained.project, MODEL, build_training_set(workspace, trained.project, MODEL, SECOND))
    import mlflow

    made = mlflow.MlflowClient().create_model_version(
        f"{trained.project}.{MODEL}", run.model_uri, run_id=run.run_id, model_id=run.model_uri.removeprefix("models:/")
    )
    verdict = reproduce(workspace, trained.project, MODEL, int(made.version))
    check = found(verdict, "predictions")
    assert not verdict.passed
    assert "the learner is not deterministic" in check.detail
    assert check.evidence["repeats_itself"] is False
    assert check.evidence["largest_difference"] > 0
    tags = RegisteredModel(workspace, trained.project, MODEL).version(int(made.version)).tags
    assert tags[TAG].startswith("differs at ")


def test_where_a_table_version_is_gone_the_stored_training_set_takes_its_place(
    trained: Trained, stack: Connections, tmp_path: Path
) -> None:
    lakehouse = tmp_path / "lakehouse"
    shutil.copytree(trained.lakehouse, lakehouse)
    jobs = lakehouse / trained.project / "jobs"
    for file in DeltaTable(str(jobs)).file_uris():
        Path(file).unlink()
    verdict = reproduce(open_workspace(trained.root, lakehouse, stack), trained.project, MODEL,
                        number(trained, "second"))  # fmt: skip
    assert verdict.outcome is Outcome.WARN, verdict.to_markdown()
    assert f"{trained.project}.jobs@" in found(verdict, "data").detail
    assert "was removed (VACUUM)" in found(verdict, "data").detail
    assert "stored training set" in found(verdict, "data").detail
    assert found(verdict, "predictions").outcome is Outcome.PASS
    shutil.rmtree(lakehouse / trained.project / f"{MODEL}_training_set")
    image = tmp_path / "image"  # which holds no repository
    shutil.copytree(trained.root / "include", image / "include")
    verdict = reproduce(open_workspace(image, lakehouse, stack), trained.project, MODEL, number(trained, "second"))
    assert found(verdict, "data").outcome is Outcome.FAIL
    assert found(verdict, "code").outcome is Outcome.WARN
    assert (
        f"since {image}/include lies in no repository, as in an image: run `penstock" in found(verdict, "code").detail
    )
    assert "predictions" not in {check.name for check in verdict.checks}


def test_a_version_that_the_pipeline_did_not_train_has_no_record(trained: Trained, stack: Connections) -> None:
    import mlflow

    workspace = open_workspace(trained.root, trained.lakehouse, stack)
    workspace.mlflow()
    api = mlflow.MlflowClient()
    run = api.create_run(api.get_experiment_by_name("Default").experiment_id)
    made = api.create_model_version(
        f"{trained.project}.{MODEL}", f"{run.info.artifact_uri}/model", run_id=run.info.run_id
    )
    with pytest.raises(RegistryError, match="not trained by the training pipeline"):
        reproduce(workspace, trained.project, MODEL, int(made.version))


def test_other_packages_are_named_those_that_the_model_requires_first(tmp_path: Path) -> None:
    here = Surroundings.here(tmp_path)
    before = Surroundings.from_dict(
        {**here.to_dict(), "packages": {**here.packages, "lightgbm": "3.0", "zzz": "1"}, "cores": here.cores + 6}
    )
    check = check_surroundings(before, here, ["lightgbm", "numpy"])
    assert check.outcome is Outcome.WARN
    assert check.detail == f"otherwise than in training: lightgbm 3.0 (now {here.packages['lightgbm']})"
    assert check.evidence["changed"]["zzz"] == ["1", "none"]
    assert check.evidence["changed"]["cores"] == [str(here.cores + 6), str(here.cores)]
    assert check_surroundings(here, here, []).outcome is Outcome.PASS


def test_a_stored_training_set_is_never_the_cause_but_all_that_differs_beside_it_is() -> None:
    differ = Compared(np.array([0.1, 0.2]), np.array([0.1, 0.3]), repeated=True)
    stored = Check("data", Outcome.WARN, "p.t@0 was removed (VACUUM). The stored training set takes its place")
    same = Check("code", Outcome.PASS, "the project's files are those of the training")
    packages = Check("surroundings", Outcome.WARN, "otherwise than in training: lightgbm 4.5 (now 4.6)")
    cause = check_predictions(differ, [same, stored, packages]).evidence["cause"]
    assert cause == "surroundings: otherwise than in training: lightgbm 4.5 (now 4.6)"
    missing = Check("code", Outcome.WARN, "it was not in Git; the project's present files take its place")
    cause = check_predictions(differ, [missing, stored, packages]).evidence["cause"]
    assert cause == f"code: {missing.detail}; surroundings: {packages.detail}"
    assert check_predictions(differ, [same, stored]).evidence["cause"].startswith("none was found in code")
