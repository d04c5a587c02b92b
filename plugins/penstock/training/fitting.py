"""Calls a project's training function, and measures what it made on the blocks that follow in time."""

import importlib
import inspect
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.blocks import LABEL, PREDICTION_TIME, Block, Fold
from penstock.training.errors import TrainingError
from penstock.training.feature_columns import FeatureColumns
from penstock.training.metrics import evaluate_metrics
from penstock.training.predictors import predict
from penstock.training.spark_ml import SparkModel, SparkSide
from penstock.training.trials import Fitted, Report, unheard

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittingFold:
    """A fold as the training function gets it."""

    training: Block
    tuning: Block

    @classmethod
    def of(cls, fold: Fold, columns: FeatureColumns, side: SparkSide | None) -> "FittingFold":
        """The rows as blocks, with the columns of their own training part."""
        return cls(_block(fold.training, columns, side), _block(fold.tuning, columns, side))


class Fitter:
    """Fits a model's candidates on its folds (oldest first) and measures them; the model of the last fold is kept."""

    def __init__(self, project: LoadedProject, spec: Model, folds: list[FittingFold]) -> None:
        self._project, self._spec, self._folds = project, spec, folds
        self._function = load_function(project, spec.training.function)
        self._takes_report = "report" in inspect.signature(self._function).parameters

    def __call__(self, parameters: dict[str, Any], report: Report) -> Fitted:
        """The model of the newest fold, with the mean of the metric over all of them.

        With several folds the running mean is reported after each, and the function's own reports are not heard.
        Raises TrainingError where the function fails, PrunedError where `report` gives the trial up.
        """
        reached: list[float] = []
        several = len(self._folds) > 1
        for number, fold in enumerate(self._folds):
            model, value = self._fit(fold, parameters, unheard if several else report)
            if value is None:
                return Fitted(model, None, reached)
            reached.append(value)
            if several and number + 1 < len(self._folds):
                report(number, sum(reached) / len(reached))
        return Fitted(model, sum(reached) / len(reached), reached if several else [])

    def _fit(self, fold: FittingFold, parameters: dict[str, Any], report: Report) -> tuple[Any, float | None]:
        training = self._spec.training
        given = {"report": report} if self._takes_report else {}
        try:
            with _seeded(training.seed, training.flavor), _place(fold.training.side):
                model = self._function(fold.training, fold.tuning, dict(parameters), **given)
            if fold.training.side is not None:
                model = SparkModel(model, fold.training.side)
            answer = predict(model, fold.tuning.features, training.task)
        except PenstockError:
            raise
        except Exception as error:  # a team's own code and its library may raise anything
            raise TrainingError(
                f"{training.function} of {self._project.folder} failed with {parameters}: "
                f"{type(error).__name__}: {error}"
            ) from error
        found = evaluate_metrics(self._project, self._spec, fold.tuning.label, answer, [training.metric])
        for reason in found.left_out.values():
            logger.warning("%s on the tuning block: %s", training.metric, reason)
        return model, found.values.get(training.metric)


def _block(rows: "pd.DataFrame", columns: FeatureColumns, side: SparkSide | None) -> Block:
    label = rows[LABEL].to_numpy(dtype="float64")
    return Block(columns.prepare(rows), label, rows[PREDICTION_TIME], side=side)


def _place(side: SparkSide | None) -> AbstractContextManager[None]:
    return nullcontext() if side is None else side.current()


@contextmanager
def _seeded(seed: int, flavor: str) -> Iterator[None]:
    """The shared generators of Python, numpy and PyTorch start at the seed within, and go on as before after it."""
    import numpy as np

    ours, theirs = random.getstate(), np.random.get_state()
    torch = importlib.import_module("torch") if flavor == "pytorch" else sys.modules.get("torch")
    tensors = torch.random.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)
        if torch:
            torch.random.set_rng_state(tensors)
