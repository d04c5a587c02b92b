"""Registers the model of a run: one version for each run, with no stage yet."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.training.card import card_writer
from penstock.training.errors import TrainingError
from penstock.training.evaluate import FOLDER
from penstock.training.explain import DESCRIPTION
from penstock.training.noted_files import PROFILE
from penstock.training.origins import check_as_trained
from penstock.training.run_version import version_of
from penstock.training.runs import RUN_KEY, TrainingRun, open_run, tracking
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MADE_BY = {DESCRIPTION: "explain_model", PROFILE: "profile_model", FOLDER: "evaluate_model"}


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model `<project>.<model>`."""

    name: str
    version: int
    run_id: str
    as_of: str


def register_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> RegisteredVersion:
    """Registers a run's model with the run's tags and description, without stage tag and alias.

    A run has one version: a repeat answers the one that is there and changes nothing of it; the model card is written
    again, with its number. Raises TrainingError for a run that lacks its evaluation, description or profile,
    since a version never changes, and for one whose files are not those that its training wrote.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        version = version_of(run)
        if version is None:
            check_as_trained(workspace, run.trained)
        _check_complete(run)
        with card_writer(run) as write_card:
            if version is None:
                write_card(None)  # beforehand: whoever sees the version finds its card
                _ensure_registered_model(client, run)
                _create(client, run)
                version = version_of(run)  # again: a retried request may have made a second one
            if version is None:
                raise TrainingError(
                    f"{run.name}: MLflow made a version for run {run_id} but does not list it: run again"
                )
            write_card(version)
        return RegisteredVersion(run.name, version, run_id, run.trained.as_of)


def _check_complete(run: TrainingRun) -> None:
    missing = sorted(set(_MADE_BY) - run.artifact_names())
    if missing:
        steps = ", ".join(_MADE_BY[name] for name in missing)
        raise TrainingError(f"run {run.run.info.run_id} of {run.name} lacks {', '.join(missing)}: do {steps} first")


def _ensure_registered_model(client: "MlflowClient", run: TrainingRun) -> None:
    from mlflow.exceptions import MlflowException

    owner = run.spec.owner or run.project.spec.owner
    tags = {"penstock.project": run.trained.project, "penstock.model": run.trained.model, "penstock.owner": owner}
    try:
        client.create_registered_model(run.name, tags=tags, description=run.spec.description.strip())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _create(client: "MlflowClient", run: TrainingRun) -> None:
    """In one request, so that no version is ever seen without its tags and description."""
    from mlflow.artifacts import load_text

    run_id = run.run.info.run_id
    tags = {
        name: value for name, value in run.run.data.tags.items() if not name.startswith("mlflow.") and name != RUN_KEY
    }
    client.create_model_version(
        run.name,
        run.trained.model_uri,
        run_id=run_id,
        model_id=run.trained.model_uri.removeprefix("models:/"),
        tags=tags,
        description=load_text(f"runs:/{run_id}/{DESCRIPTION}"),
    )
