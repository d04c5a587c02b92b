"""Asks a model in its library's own form, in memory or loaded again: the same call, the same numbers."""

from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError
from penstock.spec.project import Task
from penstock.training.errors import ScoringError
from penstock.training.torch_models import ask_module, is_module

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def predict(model: Any, features: "pd.DataFrame", task: Task) -> "np.ndarray":
    """float64 of length n: the probability of label 1, or the number predicted.

    model: anything with `predict_proba` (the column of class 1 is taken) or `predict` (LightGBM's Booster,
    scikit-learn's, Keras' and Spark ML's models), XGBoost's Booster, or a PyTorch module, which gets the matrix of
    features. features: n prepared rows.
    Raises ScoringError where the model has neither, fails on these rows, or answers with another number of values;
    ServiceError where Spark, in which it is asked, goes away.
    """
    import numpy as np

    if not len(features):
        return np.empty(0, dtype="float64")
    try:
        answer = np.asarray(_ask(model, features, task), dtype="float64")
    except (PenstockError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever they like on rows that they cannot take
        raise ScoringError(
            f"{type(model).__name__} failed on {len(features)} rows: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    if answer.ndim == 2 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if answer.shape != (len(features),):
        raise ScoringError(
            f"{type(model).__name__} answered {len(features)} rows with an array of shape {answer.shape}: "
            f"a model for {task} gives one number a row"
        )
    return answer


def _ask(model: Any, features: "pd.DataFrame", task: Task) -> Any:
    if is_module(model):
        return ask_module(model, features)
    if task is Task.CLASSIFICATION and hasattr(model, "predict_proba"):
        return model.predict_proba(features)[:, _positive_column(model)]
    if type(model).__module__.startswith("xgboost") and type(model).__name__ == "Booster":
        import xgboost

        return model.predict(xgboost.DMatrix(features, enable_categorical=True))
    if hasattr(model, "predict"):
        return model.predict(features)
    raise ScoringError(
        f"{type(model).__module__}.{type(model).__name__} has neither predict nor predict_proba: "
        "the training function must return a model that takes a DataFrame"
    )


def _positive_column(model: Any) -> int:
    classes = [float(name) for name in getattr(model, "classes_", (0, 1))]
    if 1.0 not in classes:
        raise ScoringError(f"{type(model).__name__} knows the classes {classes}, and 1 is not among them")
    return classes.index(1.0)
