"""Fits a recorded model again: the same rows, parameters and seed, once, without a trace in MLflow."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.training.blocks import LABEL, Fold, Split, folds
from penstock.training.feature_columns import fit_columns
from penstock.training.fitting import Fitter, FittingFold
from penstock.training.metrics import evaluate_metrics
from penstock.training.predictors import predict
from penstock.training.spark_ml import learning_side
from penstock.training.trained_model import TrainedModel
from penstock.training.trials import unheard
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Refitted:
    """What the model that was fitted again says.

    predictions: float64, of the rows that `recorded_rows` answers. hold_out: metrics on the hold-out rows.
    tuned: training.metric on the tuning block (the mean over the folds), None where it is not defined.
    """

    predictions: "np.ndarray"
    hold_out: dict[str, float]
    tuned: float | None


def all_rows(split: Split) -> "pd.DataFrame":
    """The rows of all three blocks, in the order of time."""
    import pandas as pd

    return pd.concat([split.training, split.tuning, split.hold_out], ignore_index=True)


def refit(workspace: Workspace, trained: TrainedModel, split: Split) -> Refitted:
    """Fits with the recorded parameters and seed by the code of the workspace's project, and asks the result.

    Raises TrainingError where the model code fails.
    """
    project = workspace.project(trained.project)
    declared = project.model(trained.model)
    spec = declared.model_copy(update={"training": declared.training.model_copy(update={"seed": trained.tuning.seed})})
    training = spec.training.model_copy(update={"folds": trained.tuning.folds})
    parts = folds(split, training, trained.training_set.table)[:-1] + [Fold(split.training, split.tuning)]
    with learning_side(workspace, project.name, training) as side:
        fitting = [
            FittingFold.of(part, fit_columns(workspace, project.name, spec, part.training), side) for part in parts
        ]
        fitted = Fitter(project, spec, fitting)(trained.parameters, unheard)
        columns = fit_columns(workspace, project.name, spec, split.training)
        predictions = predict(fitted.model, columns.prepare(all_rows(split)), training.task)
    held = len(split.hold_out)
    label = split.hold_out[LABEL].to_numpy(dtype="float64")
    found = evaluate_metrics(project, spec, label, predictions[len(predictions) - held :])
    return Refitted(predictions, found.values, fitted.value)
