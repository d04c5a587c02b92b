"""Registered versions as something to ask: loaded from the registry, with rows to try them on."""

import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError
from penstock.registry.client import RegisteredModel
from penstock.training.errors import ScoringError
from penstock.training.scoring import Scorer, load_scorer
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

SAMPLE_ROWS = 1000
_EXAMPLE = "extra_files/example_rows.json"
_TRAINING_SET_TAG = "penstock.training_set"


@dataclass(frozen=True)
class Sample:
    """Raw feature rows to try a version on, and where they are from."""

    rows: "pd.DataFrame"
    source: str


def load_version(workspace: Workspace, name: str, version: int) -> Scorer:
    """The scorer of a version. Raises ScoringError where the model is at fault, ServiceError where MLflow is."""
    try:
        return load_scorer(workspace, name, version)
    except ScoringError as error:
        if is_outage(error):
            raise ServiceError(f"{name} version {version} could not be read: {error}. Run this again") from error
        raise


def sample_rows(
    workspace: Workspace, registered: RegisteredModel, version: "ModelVersion", names: list[str]
) -> Sample | None:
    """The newest rows of the version's training set (columns `names`), else the example stored with it; None where
    both are gone.
    """
    return _of_training_set(workspace, version, names) or _stored_example(registered, version)


def _of_training_set(workspace: Workspace, version: "ModelVersion", names: list[str]) -> Sample | None:
    from deltalake.exceptions import DeltaError

    from penstock.errors import TableError
    from penstock.features.point_in_time import PREDICTION_TIME
    from penstock.lakehouse.small_tables import read

    address, _, number = version.tags.get(_TRAINING_SET_TAG, "").rpartition("@")
    if not (address and number.isdigit()):
        return None
    try:
        path = workspace.addresses.find(address)
        if path is None:
            return None
        frame = read(path, version=int(number), columns=[PREDICTION_TIME, *names])
    except (DeltaError, TableError, KeyError, ValueError, OSError):  # vacuumed, or rebuilt with other columns
        return None
    newest = frame.sort_values(PREDICTION_TIME, kind="stable").tail(SAMPLE_ROWS)
    return Sample(newest[names].reset_index(drop=True), f"{address}@{number}") if len(newest) else None


def _stored_example(registered: RegisteredModel, version: "ModelVersion") -> Sample | None:
    import pandas as pd
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = f"models:/{registered.name}/{version.version}/{_EXAMPLE}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with open(download_artifacts(artifact_uri=uri, dst_path=folder), encoding="utf-8") as file:
                rows: list[dict[str, Any]] = json.load(file)
        except (MlflowException, OSError, ValueError):
            return None
    return Sample(pd.DataFrame(rows), "the example stored with the model") if rows else None


def is_outage(error: BaseException) -> bool:
    """Whether MLflow did not answer, as against an answer that something is wrong."""
    import requests
    from mlflow.exceptions import MlflowException

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, requests.ConnectionError | requests.Timeout):
            return True
        if (
            isinstance(found, MlflowException)
            and "API request to" in str(found)
            and found.get_http_status_code() >= 500
        ):
            return True
        found = found.__cause__ or found.__context__
    return False
