"""MLflow runs of a model: found again, given up, opened for the steps after training."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.features.training_set import TrainingSet
from penstock.lakehouse.git import CODE, CodeState, project_digest
from penstock.spec.imported import imported_code
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.blocks import Split
from penstock.training.errors import TrainingError
from penstock.training.loading import recorded_rows, where_it_lies
from penstock.training.mlflow_client import every, outages
from penstock.training.noted_files import exchanged_file
from penstock.training.origins import CODE_TAG, OriginKind, code_tags, origin_tags
from penstock.training.scoring import Scorer, load_scorer_from
from penstock.training.surroundings import library_digest
from penstock.training.trained_model import FILE_NAME, TrainedModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

RUN_KEY = "penstock.run_key"
ABANDONED = "penstock.abandoned"


@contextmanager
def tracking(workspace: Workspace) -> Iterator["MlflowClient"]:
    """A client of the workspace's MLflow. What fails because the server does not answer becomes ServiceError."""
    from mlflow import MlflowClient

    workspace.mlflow()
    with outages(workspace.resolved.mlflow_uri):
        yield MlflowClient()


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The id of an experiment, made where it is missing. Raises TrainingError where somebody deleted it."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        identifier = found.experiment_id if found else name
        raise TrainingError(
            f"the MLflow experiment {name} was deleted: `mlflow experiments restore -x {identifier}` brings it back"
        )
    return str(found.experiment_id)


def run_key(
    workspace: Workspace, project: LoadedProject, model_name: str, training_set: TrainingSet,
    parameters: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """What decides what a training tries and makes: DAG run, data, declaration, code, limits, given parameters.

    Code counts by content, wherever it stands: the project's files, what they import from elsewhere, and Penstock
    itself. So a study that was interrupted goes on although a commit came in between that changed none of it.
    """
    facts = {
        "run": workspace.lineage.run,
        "model": f"{project.name}.{model_name}",
        "data": [training_set.table, training_set.version, training_set.as_of, training_set.path],
        "declaration": project.model(model_name).model_dump(mode="json"),
        "code": project_digest(project.folder, CODE),
        "imported": imported_code(project.folder),
        "limits": workspace.environment.limits.model_dump(mode="json"),
        "library": [penstock.__version__, library_digest()],
        "parameters": parameters,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def finished_run(client: "MlflowClient", experiment: str, key: str, code: CodeState) -> TrainedModel | None:
    """What an earlier, complete run with this key left, if it says of its code what a run would say now.

    Unfinished runs with the key are given up: failed, and tagged so. A complete one of another commit, or of a working
    tree that was dirty then, stays what it is: its record says where its model is from.
    """
    found, said = None, code_tags(code)[CODE_TAG]
    for run in every(client.search_runs, [experiment], f"tags.`{RUN_KEY}` = '{key}'"):
        trained = load_trained(run) if run.info.status == "FINISHED" else None
        if trained is None and ABANDONED not in run.data.tags:
            logger.warning("run %s was not finished: it is given up, and training starts anew", run.info.run_id)
            client.set_tag(run.info.run_id, ABANDONED, "a later try of the same training replaced it")
            if run.info.status != "FAILED":
                client.set_terminated(run.info.run_id, "FAILED")
        if run.data.tags.get(CODE_TAG) == said:
            found = found or trained
    return found


def load_trained(run: "Run") -> TrainedModel | None:
    """What a run's training left; None where it did not come that far."""
    text = _record(run)
    return TrainedModel.from_dict(json.loads(text)) if text else None


def _record(run: "Run") -> str | None:
    from mlflow.artifacts import list_artifacts, load_text

    if not any(item.path == FILE_NAME for item in list_artifacts(run_id=run.info.run_id)):
        return None
    return str(load_text(f"runs:/{run.info.run_id}/{FILE_NAME}"))


def lineage_tags(
    workspace: Workspace, project: LoadedProject, model_name: str, training_set: TrainingSet, trained_until: str,
    code: CodeState,
) -> dict[str, str]:  # fmt: skip
    """The tags of a run and of the model version that comes from it: the team's own, then Penstock's (rule 8)."""
    return {
        **project.spec.tags,
        **project.model(model_name).tags,
        "penstock.project": project.name,
        "penstock.model": model_name,
        "penstock.as_of": training_set.as_of,
        "penstock.trained_until": trained_until,
        **code_tags(code),
        **origin_tags(workspace, project.folder, code.version),
        "penstock.library": penstock.__version__,
        "penstock.run": workspace.lineage.run,
        "penstock.inputs": json.dumps(training_set.inputs, sort_keys=True),
        "penstock.training_set": f"{training_set.table}@{training_set.version}",
    }


@dataclass(frozen=True)
class TrainingRun:
    """A finished training run with everything that later steps need of it."""

    workspace: Workspace
    client: "MlflowClient"
    project: LoadedProject
    spec: Model
    run: "Run"
    trained: TrainedModel

    @property
    def name(self) -> str:
        """The registered name: `<project>.<model>`."""
        return f"{self.trained.project}.{self.trained.model}"

    @cached_property
    def split(self) -> Split:
        """The blocks that the model was trained with, read again from the recorded table version."""
        here = where_it_lies(self.workspace, self.trained.training_set)
        return recorded_rows(self.workspace, self.trained, here)

    @cached_property
    def scorer(self) -> Scorer:
        """The logged model."""
        return load_scorer_from(self.workspace, self.trained.model_uri)

    def log_metrics(self, values: dict[str, float]) -> None:
        """Adds metrics to the run; a repeat writes them again."""
        import time

        from mlflow.entities import Metric

        moment = int(time.time() * 1000)
        self.client.log_batch(
            self.run.info.run_id, metrics=[Metric(name, value, moment, 0) for name, value in values.items()]
        )

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """A folder whose files become artifacts of the run on leaving, each replacing the one of its name."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            self.client.log_artifacts(self.run.info.run_id, folder)

    def artifact_names(self) -> set[str]:
        """The files and folders at the top of the run's artifacts."""
        return {item.path for item in self.client.list_artifacts(self.run.info.run_id)}


def open_run(
    workspace: Workspace, client: "MlflowClient", project_name: str, model_name: str, run_id: str
) -> TrainingRun:
    """A finished training run of a model.

    Raises TrainingError for another model's, an unfinished one, and one whose record is not what training wrote.
    """
    from mlflow.exceptions import MlflowException

    project = workspace.project(project_name)
    name = f"{project_name}.{model_name}"
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrainingError(f"MLflow has no run {run_id!r}: train {name} first") from error
    owner = f"{run.data.tags.get('penstock.project')}.{run.data.tags.get('penstock.model')}"
    if owner != name:
        raise TrainingError(f"run {run_id} belongs to {owner}, not to {name}")
    text = _record(run) if run.info.status == "FINISHED" else None
    if text is None:
        raise TrainingError(f"run {run_id} of {name} is {run.info.status} and holds no model: train it again")
    if problem := exchanged_file(workspace, project_name, model_name, run_id, OriginKind.RECORD, text):
        raise TrainingError(problem)
    trained = TrainedModel.from_dict(json.loads(text))
    return TrainingRun(workspace, client, project, project.model(model_name), run, trained)


def to_json(value: Any) -> str:
    """Readable JSON text."""
    return json.dumps(value, indent=1, sort_keys=False, default=str) + "\n"


def dataclass_json(value: Any) -> str:
    """A dataclass as readable JSON text."""
    return to_json(asdict(value))
