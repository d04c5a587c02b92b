"""What a model must beat: the project's heuristic, or always saying the training block's mean label."""

from typing import TYPE_CHECKING

from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def heuristic_predictions(
    project: LoadedProject, model: Model, features: "pd.DataFrame", label_mean: float
) -> "np.ndarray":
    """float64 of length n for n rows of raw feature columns; `label_mean` is the training block's.

    Raises TrainingError where the project's function fails or answers another number of values.
    """
    import numpy as np

    declared = model.promotion.heuristic
    if declared is None:
        return np.full(len(features), label_mean, dtype="float64")
    try:
        answer = np.asarray(load_function(project, declared)(features), dtype="float64")
    except Exception as error:  # the project's own code may raise anything
        raise TrainingError(f"promotion.heuristic {declared} failed: {type(error).__name__}: {error}") from error
    if answer.shape != (len(features),):
        raise TrainingError(
            f"promotion.heuristic {declared} answered {len(features)} rows with an array of shape {answer.shape}"
        )
    return answer
