"""Asks a registered model: raw feature columns in, predictions out.

Every model that Penstock asks in a process of its own is loaded here, and nowhere else: so this is where a version's
files are held against those that training wrote or a person adopted, and files that would run code against their
origin.
"""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached

from penstock.errors import TableError
from penstock.spec.project import Task
from penstock.training.errors import ScoringError
from penstock.training.feature_columns import FeatureColumns
from penstock.training.mlflow_client import download, outages
from penstock.training.model_folder import ModelFiles, Unusable
from penstock.training.origins import Origin, exchange, exchanged, how_to_adopt, read_origins, voucher
from penstock.training.predictors import predict
from penstock.training.serialisation import as_data, runs_code
from penstock.training.spark_ml import FLAVOR as SPARK
from penstock.training.spark_ml import StoredSparkModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from mlflow import MlflowClient

_SCHEMES = ("models:/", "runs:/")
_REGISTERED = re.compile(r"models:/(?P<project>[A-Za-z_]\w*)\.(?P<model>\w+)[/@](?P<which>[^/]+)")
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
    workspace.mlflow()
    scorer = _load(workspace, model_uri)
    if isinstance(scorer.native_model, StoredSparkModel):
        return replace(scorer, native_model=scorer.native_model.bound(workspace, scorer.feature_spec["project"]))
    return scorer


def _place(workspace: Workspace, model_uri: str) -> tuple[str, ...]:
    """Whose model it is, and who vouches for it: what a loaded one is kept by."""
    connections = workspace.resolved
    registry = connections.registry_uri or connections.mlflow_uri
    return registry, connections.mlflow_uri, workspace.environment.lakehouse.root, model_uri


@cached(LRUCache(_MOST_KEPT), key=_place, lock=Lock())
def _load(workspace: Workspace, model_uri: str) -> Scorer:
    tracking = workspace.resolved.mlflow_uri
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = download(model_uri, Path(folder), tracking)
        except FileNotFoundError as error:
            raise ScoringError(f"{model_uri} cannot be read from {tracking}: {error}") from error
        files = ModelFiles(local, model_uri)
        try:
            spec = files.feature_spec
            trusted = _check_origin(workspace, files)
            with as_data(files, trusted=trusted):
                return Scorer(model_uri, spec, _native_model(files))
        except Unusable as error:
            raise ScoringError(f"{model_uri} cannot be used: {error}") from error


def _check_origin(workspace: Workspace, files: ModelFiles) -> bool:
    """Whether the files run code and somebody vouches for them. Raises ScoringError for a version whose files were
    exchanged, and for files that would run code that nobody here knows; Unusable for odd files.

    A version of a run of this environment's training, that a person adopted, or that the compliance check let through
    is loaded from the very files whose digest stands for it in `model_origins`. Others in formats that are data only
    need no origin. Of those that run code the digest must stand there, as made by training or as vouched for by a
    person. Which project's table counts says the registered name, not what the files say about themselves.
    """
    reasons = runs_code(files)
    named = _REGISTERED.fullmatch(files.uri)
    project, model = (named["project"], named["model"]) if named else _said_name(files)
    try:
        origins = read_origins(workspace, project, model) if named or reasons else ()
    except TableError:  # no name of a project
        origins = ()
    if named and origins:
        _check_unchanged(workspace, files, origins, f"{project}.{model}", named["which"])
    if not reasons:
        return False
    if voucher([found for found in origins if found.digest == files.digest]) is None:
        version = named["which"] if named else "VERSION"
        raise ScoringError(
            f"{files.uri} is not loaded: {'; '.join(reasons)}, and nothing in {project}.model_origins vouches for its "
            f"files (digest {files.digest[:12]}): training here did not make them, or they were changed since. Train "
            "it here, log it in a format that is data only, or let a person who knows its origin vouch for it: "
            f"{how_to_adopt(f'{project}.{model}', version, trust_pickle=True)}"
        )
    return True


def _check_unchanged(workspace: Workspace, files: ModelFiles, origins: Sequence[Origin], name: str, which: str) -> None:
    """Raises ScoringError where a version's files are not those that were trained, adopted or judged as it."""
    from mlflow import MlflowClient

    connections = workspace.resolved
    client = MlflowClient(connections.mlflow_uri, connections.registry_uri or connections.mlflow_uri)
    with outages(connections.mlflow_uri):
        found = (
            client.get_model_version(name, which) if which.isdecimal() else
            client.get_model_version_by_alias(name, which)
        )  # fmt: skip
        run_id = found.run_id or _run_of_model(client, found.model_id)
    whose = exchanged(origins, files.digest, int(found.version), run_id)
    if whose is not None:
        raise ScoringError(
            f"{name} version {found.version} is not loaded: {exchange(files.digest, whose)}. If it is in production, "
            f"put the former version back: penstock rollback {name} --reason WHY. Then find out by whom, and train "
            f"again; only who knows where the new files are from lets them in: {how_to_adopt(name, found.version)}"
        )


def _run_of_model(client: "MlflowClient", model_id: str | None) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_logged_model(model_id).source_run_id or None if model_id else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _said_name(files: ModelFiles) -> tuple[str, str]:
    return str(files.feature_spec.get("project", "")), str(files.feature_spec.get("model", ""))


def _native_model(files: ModelFiles) -> Any:
    import mlflow

    flavor = files.flavor
    try:
        if flavor == SPARK:
            return StoredSparkModel.of(files.folder)
        return getattr(mlflow, flavor).load_model(str(files.folder))
    except Exception as error:  # libraries raise whatever they like on a file that they cannot read
        raise ScoringError(
            f"{files.uri} ({flavor}) cannot be loaded: {type(error).__name__}: {str(error)[:300]}. "
            "Are the packages of its requirements.txt installed?"
        ) from error
