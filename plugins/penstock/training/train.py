"""Makes a candidate: tunes and fits on the blocks of a training set, in one MLflow run."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of
from penstock.errors import PenstockError
from penstock.features.training_set import TrainingSet, read_training_set
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.blocks import LABEL, PREDICTION_TIME, Block, Boundaries, Split, check_split, split
from penstock.training.errors import TrainingError
from penstock.training.feature_columns import FeatureColumns, fit_columns
from penstock.training.feature_spec import feature_spec
from penstock.training.metrics import evaluate_metrics, is_lower_better
from penstock.training.model_files import EXAMPLE_ROWS, ModelParts, log_native_model
from penstock.training.predictors import predict
from penstock.training.run_inputs import log_inputs
from penstock.training.runs import RUN_KEY, experiment_id, finished_run, lineage_tags, run_key, to_json, tracking
from penstock.training.trained_model import FILE_NAME, TrainedModel
from penstock.training.tuning import Fit, Trial, Tuned, tune
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    """A model that is being made: its declaration and its data."""

    workspace: Workspace
    project: LoadedProject
    model_name: str
    training_set: TrainingSet
    rows: Split
    columns: FeatureColumns

    @property
    def spec(self) -> Model:
        return self.project.model(self.model_name)


def train_model(workspace: Workspace, project_name: str, model_name: str, training_set: TrainingSet) -> TrainedModel:
    """Tunes and trains a model on a training set, and logs it in one run of the experiment `<project>.<model>`.

    The same data, declaration, code and DAG run again: a finished run is answered as it is, an unfinished
    one is given up and made anew. Raises TrainingError for data that cannot be learned from and for model
    code that fails, ServiceError where MLflow does not answer.
    """
    import mlflow

    project = workspace.project(project_name)
    project.model(model_name)
    with tracking(workspace) as client:
        experiment = experiment_id(client, f"{project_name}.{model_name}")
        key = run_key(workspace, project, model_name, training_set)
        earlier = finished_run(client, experiment, key)
        if earlier is not None:
            logger.info("run %s has already trained this: nothing to do", earlier.run_id)
            return earlier
        candidate = _prepare(workspace, project, model_name, training_set)
        tags = lineage_tags(workspace, project, model_name, training_set, candidate.rows.boundaries.trained_until)
        name = f"{model_name} {training_set.as_of}"
        with mlflow.start_run(experiment_id=experiment, run_name=name, tags={**tags, RUN_KEY: key}) as run:
            return _train(candidate, client, run.info.run_id)


def _prepare(workspace: Workspace, project: LoadedProject, model_name: str, training_set: TrainingSet) -> _Candidate:
    spec = project.model(model_name)
    boundaries = Boundaries.of(spec.training, parse_as_of(training_set.as_of))
    rows = split(read_training_set(training_set), boundaries, workspace.environment.limits.training_rows)
    check_split(rows, spec.training, f"{training_set.table}@{training_set.version}")
    logger.info("%s@%s: %s", training_set.table, training_set.version, rows.rows)
    columns = fit_columns(workspace, project.name, spec, rows.training)
    return _Candidate(workspace, project, model_name, training_set, rows, columns)


def _train(candidate: _Candidate, client: "MlflowClient", run_id: str) -> TrainedModel:
    training = candidate.spec.training
    limit = candidate.workspace.environment.limits.trials
    log_inputs(client, run_id, candidate.workspace, candidate.training_set)
    tuned = tune(
        training,
        _fit(candidate),
        trials=min(training.trials, limit or training.trials),
        lower_is_better=is_lower_better(candidate.spec, training.metric),
    )
    boundaries = candidate.rows.boundaries
    spec = feature_spec(
        candidate.project, candidate.model_name, candidate.columns, candidate.training_set, boundaries.trained_until
    )
    example = candidate.rows.training.tail(EXAMPLE_ROWS)
    metrics = {f"tune_{training.metric}": float(tuned.best.value or 0.0)}
    _log_trials(client, run_id, candidate, tuned, metrics)
    model_uri = log_native_model(ModelParts(tuned.model, candidate.columns, to_json(spec), example), training)
    trained = TrainedModel(
        run_id=run_id,
        model_uri=model_uri,
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
        label_mean=float(candidate.rows.training[LABEL].mean()),
    )
    client.log_dict(run_id, trained.to_dict(), FILE_NAME)  # the last artifact: with it the run is complete
    return trained


def _fit(candidate: _Candidate) -> Fit:
    """The function that fits a model with some parameters, and measures it on the tuning block."""
    training = candidate.spec.training
    function = load_function(candidate.project, training.function)
    learn, judge = (_block(part, candidate.columns) for part in (candidate.rows.training, candidate.rows.tuning))

    def fit(parameters: dict[str, Any]) -> tuple[Any, float | None]:
        try:
            with _seeded(training.seed):
                model = function(learn, judge, dict(parameters))
            answer = predict(model, judge.features, training.task)
        except PenstockError:
            raise
        except Exception as error:  # a team's own code and its library may raise anything
            raise TrainingError(
                f"{training.function} of {candidate.project.folder} failed with {parameters}: "
                f"{type(error).__name__}: {error}"
            ) from error
        found = evaluate_metrics(candidate.project, candidate.spec, judge.label, answer, [training.metric])
        for reason in found.left_out.values():
            logger.warning("%s on the tuning block: %s", training.metric, reason)
        return model, found.values.get(training.metric)

    return fit


def _block(rows: "pd.DataFrame", columns: FeatureColumns) -> Block:
    features = columns.prepare(rows)
    return Block(features, rows[LABEL].to_numpy(dtype="float64"), rows[PREDICTION_TIME])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and numpy's shared generators start at the seed within, and go on as before after it."""
    import numpy as np

    ours, theirs = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)


def _log_trials(
    client: "MlflowClient", run_id: str, candidate: _Candidate, tuned: Tuned, metrics: dict[str, float]
) -> None:
    """The chosen parameters, the course of tuning as a metric by step, and every trial in trials.csv."""
    import time

    import pandas as pd
    from mlflow.entities import Metric, Param

    training, rows = candidate.spec.training, candidate.rows.rows
    moment = int(time.time() * 1000)
    course = [
        Metric(f"trial_{training.metric}", trial.value, moment, trial.number)
        for trial in tuned.trials
        if trial.value is not None
    ]
    final = [Metric(name, value, moment, 0) for name, value in metrics.items()]
    described = {
        **tuned.best.parameters,
        "training.function": training.function,
        "training.metric": training.metric,
        "training.seed": training.seed,
        "training.trials": len(tuned.trials),
        "training.rows": rows.training,
        "tuning.rows": rows.tuning,
        "hold_out.rows": rows.hold_out,
    }
    client.log_batch(run_id, metrics=[*course, *final], params=[Param(k, str(v)) for k, v in described.items()])
    table = pd.DataFrame([_trial_row(trial, training.metric) for trial in tuned.trials])
    client.log_text(run_id, table.to_csv(index=False), "trials.csv")


def _trial_row(trial: Trial, metric: str) -> dict[str, Any]:
    return {"trial": trial.number + 1, metric: trial.value, "seconds": trial.seconds, **trial.parameters}
