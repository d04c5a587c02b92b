"""Asks a registered model: raw feature columns in, predictions out."""

import json
import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.spec.project import Task
from penstock.training.errors import ScoringError
from penstock.training.feature_columns import FeatureColumns
from penstock.training.feature_spec import PATH_IN_MODEL
from penstock.training.mlflow_client import outages, quiet
from penstock.training.predictors import predict
from penstock.training.spark_ml import FLAVOR as SPARK
from penstock.training.spark_ml import StoredSparkModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_SCHEMES = ("models:/", "runs:/")
_MOST_KEPT = 8


@dataclass(frozen=True)
class Scorer:
    """A loaded model with its feature_spec.json.

    native_model: the model in its library's own form; what `Scorer.predict` asks after preparing columns.
    """

    uri: str
    feature_spec: dict[str, Any]
    native_model: Any = field(repr=False)

    @cached_property
    def columns(self) -> FeatureColumns:
        """The features in order, with types and categories."""
        return FeatureColumns.from_list(self.feature_spec["features"])

    @property
    def task(self) -> Task:
        """What the predictions are: probabilities of label 1, or numbers."""
        return Task(self.feature_spec["task"])

    def prepare(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The model's own input for raw feature columns. Raises ScoringError naming a column that does not fit."""
        return self.columns.prepare(frame)

    def predict(self, frame: "pd.DataFrame") -> "np.ndarray":
        """float64 of length n for n rows of raw feature columns; others are ignored.

        Strings may be objects or categories, numbers integers, floats or booleans, with nulls in any form.
        Raises ScoringError that names a column that is missing or holds another type.
        """
        return predict(self.native_model, self.prepare(frame), self.task)


def load_scorer(workspace: Workspace, name: str, version: int | str) -> Scorer:
    """The scorer of a registered version. Raises ScoringError where it cannot be loaded.

    A version never changes, so it is loaded once in a process.
    """
    return load_scorer_from(workspace, f"models:/{name}/{int(version)}")


def load_scorer_from(workspace: Workspace, model_uri: str) -> Scorer:
    """The scorer of a model of this workspace's MLflow: `models:/…` or `runs:/…`, nothing else.

    Raises ScoringError where it cannot be loaded, ServiceError where MLflow does not answer.
    """
    if not model_uri.startswith(_SCHEMES):
        raise ScoringError(
            f"{model_uri!r} is no model of this workspace: models are loaded from its MLflow only, by "
            "models:/<name>/<version>, models:/<id> or runs:/<run id>/model"
        )
    quiet()
    workspace.mlflow()
    connections = workspace.resolved
    scorer = _load(connections.registry_uri or connections.mlflow_uri, connections.mlflow_uri, model_uri)
    if isinstance(scorer.native_model, StoredSparkModel):
        return replace(scorer, native_model=scorer.native_model.bound(workspace, scorer.feature_spec["project"]))
    return scorer


@lru_cache(maxsize=_MOST_KEPT)
def _load(registry: str, tracking: str, model_uri: str) -> Scorer:  # noqa: ARG001 - the key of the cache
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            with outages(tracking):
                local = Path(download_artifacts(artifact_uri=model_uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise ScoringError(f"{model_uri} cannot be read from {tracking}: {str(error)[:300]}") from error
        spec_file = local / PATH_IN_MODEL
        if not spec_file.is_file():
            raise ScoringError(f"{model_uri} has no {PATH_IN_MODEL}: it was not trained by Penstock")
        spec = json.loads(spec_file.read_text(encoding="utf-8"))
        return Scorer(model_uri, spec, _native_model(local, model_uri))


def _native_model(folder: Path, model_uri: str) -> Any:
    import mlflow
    from mlflow.models import Model

    flavors = [name for name in Model.load(str(folder)).flavors if name != "python_function"]
    if not flavors:
        raise ScoringError(f"{model_uri} has no flavour of its own, only python_function: log it in its library's")
    try:
        if flavors[0] == SPARK:
            return StoredSparkModel.of(folder)
        return getattr(mlflow, flavors[0]).load_model(str(folder))
    except Exception as error:  # libraries raise whatever they like on a file that they cannot read
        raise ScoringError(
            f"{model_uri} ({flavors[0]}) cannot be loaded: {type(error).__name__}: {str(error)[:300]}. "
            "Are the packages of its requirements.txt installed?"
        ) from error
