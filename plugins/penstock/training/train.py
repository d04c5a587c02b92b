"""Makes a candidate: tunes and fits on the blocks of a training set, in one MLflow run."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of
from penstock.features.training_set import TrainingSet
from penstock.lakehouse.git import code_state, project_digest
from penstock.spec.loading import LoadedProject
from penstock.spec.names import TUNE_PREFIX
from penstock.spec.project import Model
from penstock.training.blocks import LABEL, Boundaries, Fold, Split, check_split, folds
from penstock.training.feature_columns import FeatureColumns, fit_columns
from penstock.training.feature_spec import feature_spec
from penstock.training.fitting import Fitter, FittingFold
from penstock.training.loading import RowLimit, load_split
from penstock.training.metrics import is_lower_better
from penstock.training.model_files import EXAMPLE_ROWS, ModelParts, find_flavor, log_native_model
from penstock.training.noted_files import note_file
from penstock.training.origins import OriginKind, read_origins, trained_origin, write_origin
from penstock.training.run_inputs import log_inputs
from penstock.training.runs import RUN_KEY, experiment_id, finished_run, lineage_tags, run_key, to_json, tracking
from penstock.training.spark_ml import SparkSide, learning_side
from penstock.training.surroundings import FILE_NAME as SURROUNDINGS
from penstock.training.surroundings import Surroundings
from penstock.training.trained_model import FILE_NAME, TrainedModel, Tuning
from penstock.training.trial_runs import TrialRuns
from penstock.training.tuning import Budget, Tuned, tune
from penstock.training.tuning_record import log_tuning
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    """A model that is being made: its declaration, its data, and what may be tried."""

    workspace: Workspace
    project: LoadedProject
    model_name: str
    training_set: TrainingSet
    rows: Split
    older_folds: list[Fold]
    columns: FeatureColumns
    budget: Budget

    @property
    def spec(self) -> Model:
        return self.project.model(self.model_name)


def train_model(
    workspace: Workspace, project_name: str, model_name: str, training_set: TrainingSet,
    parameters: dict[str, Any] | None = None,
) -> TrainedModel:  # fmt: skip
    """Tunes and trains a model on a training set, and logs it in one run of the experiment `<project>.<model>`.

    Each trial is a nested run. With `parameters` (those of a recorded model, say) there is no tuning: one fit with
    exactly these. Which files came of it stands in `model_origins`, by their digest before they went to MLflow.
    The same data, declaration, code and DAG run again: a finished run is answered as it is, unless it is recorded with
    another commit; of an unfinished one the finished trials are kept, the rest is given up and made anew. Raises
    TrainingError for data that cannot be learned from and for model code that fails, ServiceError where MLflow does not
    answer.
    """
    import mlflow

    project = workspace.project(project_name)
    project.model(model_name)
    with tracking(workspace) as client:
        experiment = experiment_id(client, f"{project_name}.{model_name}")
        key, code = run_key(workspace, project, model_name, training_set, parameters), code_state(project.folder)
        earlier = finished_run(client, experiment, key, code)
        if earlier is not None and _is_noted(workspace, earlier):
            logger.info("run %s has already trained this: nothing to do", earlier.run_id)
            return earlier
        candidate = _prepare(workspace, project, model_name, training_set, parameters)
        tags = lineage_tags(workspace, project, model_name, training_set, candidate.rows.boundaries.trained_until, code)
        name = f"{model_name} {training_set.as_of}"
        with (
            mlflow.start_run(experiment_id=experiment, run_name=name, tags={**tags, RUN_KEY: key}) as run,
            learning_side(workspace, project_name, candidate.spec.training) as side,
        ):
            trials = TrialRuns(client, experiment, run.info.run_id, key, candidate.spec.training.metric)
            trained, digest = _train(candidate, client, run.info.run_id, trials, side)
            write_origin(workspace, project_name, trained_origin(trained, digest, tags))
            note_file(workspace, trained, OriginKind.RECORD, trained.to_dict())
            client.log_dict(trained.run_id, trained.to_dict(), FILE_NAME)  # last of all: with it the run is complete
            return trained


def _is_noted(workspace: Workspace, trained: TrainedModel) -> bool:
    """Whether the lakehouse knows which files the run's training wrote."""
    found = read_origins(workspace, trained.project, trained.model, run_id=trained.run_id)
    return any(row.kind is OriginKind.TRAINED for row in found)


def _prepare(
    workspace: Workspace, project: LoadedProject, model_name: str, training_set: TrainingSet,
    parameters: dict[str, Any] | None,
) -> _Candidate:  # fmt: skip
    spec, limits = project.model(model_name), workspace.environment.limits
    boundaries = Boundaries.of(spec.training, parse_as_of(training_set.as_of))
    limit = RowLimit.of(spec.training, limits)
    rows = load_split(training_set, boundaries, limit, limits.training_memory_gb)
    table = f"{training_set.table}@{training_set.version}"
    check_split(rows, spec.training, table)
    logger.info("%s: %s", table, rows.rows)
    columns = fit_columns(workspace, project.name, spec, rows.training)
    budget = Budget.of(spec.training, limits) if parameters is None else Budget.once(parameters)
    older = folds(rows, spec.training, table)[:-1] if budget.trials > 1 else []
    return _Candidate(workspace, project, model_name, training_set, rows, older, columns, budget)


def _train(
    candidate: _Candidate, client: "MlflowClient", run_id: str, trials: TrialRuns, side: SparkSide | None
) -> tuple[TrainedModel, str]:
    """What was trained, and the digest of the files that went to MLflow."""
    training, budget = candidate.spec.training, candidate.budget
    find_flavor(training.flavor)  # before hours of tuning
    log_inputs(client, run_id, candidate.workspace, candidate.training_set)
    tuned = tune(
        training,
        Fitter(candidate.project, candidate.spec, _fitting_folds(candidate, side)),
        budget,
        lower_is_better=is_lower_better(candidate.spec, training.metric),
        earlier=trials.earlier() if budget.trials > 1 else [],
        keep=trials.keep if budget.trials > 1 else lambda _: None,
    )
    boundaries = candidate.rows.boundaries
    label_mean = float(candidate.rows.training[LABEL].mean())
    spec = feature_spec(
        candidate.project, candidate.model_name, candidate.columns, candidate.training_set, boundaries.trained_until,
        label_mean,
    )  # fmt: skip
    example = candidate.rows.training.tail(EXAMPLE_ROWS)
    metrics = {f"{TUNE_PREFIX}{training.metric}": float(tuned.best.value or 0.0)}
    client.log_dict(run_id, Surroundings.here(candidate.project.folder).to_dict(), SURROUNDINGS)
    log_tuning(client, run_id, candidate.spec, candidate.rows.rows, budget, tuned)
    logged = log_native_model(ModelParts(tuned.model, candidate.columns, to_json(spec), example), training)
    trained = TrainedModel(
        run_id=run_id,
        model_uri=logged.uri,
        project=candidate.project.name,
        model=candidate.model_name,
        as_of=candidate.training_set.as_of,
        trained_until=boundaries.trained_until,
        metrics=metrics,
        parameters=tuned.best.parameters,
        training_set=candidate.training_set,
        boundaries=boundaries,
        rows=candidate.rows.rows,
        newest_rows=candidate.workspace.environment.limits.training_rows,
        sampling=str(training.sampling),
        label_mean=label_mean,
        tuning=_tuning(candidate, tuned),
        code_digest=project_digest(candidate.project.folder),
    )
    return trained, logged.digest


def _fitting_folds(candidate: _Candidate, side: SparkSide | None) -> list[FittingFold]:
    workspace, project, spec = candidate.workspace, candidate.project.name, candidate.spec
    older = [
        FittingFold.of(fold, fit_columns(workspace, project, spec, fold.training), side)
        for fold in candidate.older_folds
    ]
    newest = Fold(candidate.rows.training, candidate.rows.tuning)
    return [*older, FittingFold.of(newest, candidate.columns, side)]


def _tuning(candidate: _Candidate, tuned: Tuned) -> Tuning:
    return Tuning(
        search=candidate.budget.kind, seed=candidate.spec.training.seed, trials=len(tuned.trials),
        chosen=tuned.best.number, folds=len(candidate.older_folds) + 1, stopped=tuned.stopped,
    )  # fmt: skip
