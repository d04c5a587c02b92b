"""Registered versions as something to ask: loaded from the registry, with rows to try them on."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import ServiceError
from penstock.training.errors import ScoringError
from penstock.training.model_folder import ModelFiles, Unusable
from penstock.training.scoring import Scorer, load_scorer
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

SAMPLE_ROWS = 1000
_EXAMPLE = "extra_files/example_rows.json"
_OF_A_FOLDER = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""OSErrors about what files there are, which may well be the version's fault; others are the machine's or a store's."""
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
        raise_outage(error, f"loading {name} version {version}")
        raise


def sample_rows(workspace: Workspace, version: "ModelVersion", files: ModelFiles) -> Sample | None:
    """The newest rows of the version's training set (its features), else the example stored with it; None where both
    are gone. Raises Unusable where the example is no table, or the files do not say which features they take.
    """
    return _of_training_set(workspace, version, files.columns.names) or _stored_example(files)


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
    except (DeltaError, TableError, KeyError, ValueError, FileNotFoundError):  # vacuumed, or has other columns by now
        return None
    newest = frame.sort_values(PREDICTION_TIME, kind="stable").tail(SAMPLE_ROWS)
    return Sample(newest[names].reset_index(drop=True), f"{address}@{number}") if len(newest) else None


def _stored_example(files: ModelFiles) -> Sample | None:
    import pandas as pd
    import pyarrow as pa

    path = files.names.get(_EXAMPLE)
    if path is None:
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise TypeError("it is no list of rows")
        frame = pd.DataFrame(rows)
        pa.Table.from_pandas(frame)  # each column of one type
    except (ValueError, TypeError, NotImplementedError, pa.ArrowException, RecursionError) as error:
        raise Unusable(
            f"the example stored with it ({_EXAMPLE}) is no table ({type(error).__name__}: {str(error)[:200]}): log "
            'the model with a list of rows, such as [{"load": 1.5}, {"load": 2}]'
        ) from error
    return Sample(frame, "the example stored with the model") if len(frame) else None


def raise_outage(error: BaseException, what: str) -> None:
    """Raises ServiceError where a failure lies with this machine, the lakehouse, MLflow or Spark: it says nothing about
    the version then, and may be gone the next time.
    """
    if isinstance(error, ServiceError):
        raise error
    found: BaseException | None = error
    while found is not None:
        if _is_outage(found):
            raise ServiceError(
                f"{what} could not be finished: {type(found).__name__}: {str(found)[:300]}. See whether MLflow and the "
                "lakehouse's storage answer, and whether this machine has room on its disk (penstock status). Run this "
                "again: nothing was decided"
            ) from error
        found = found.__cause__ or found.__context__


def _is_outage(error: BaseException) -> bool:
    from deltalake.exceptions import DeltaError, TableNotFoundError
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return "API request to" in str(error) and error.get_http_status_code() >= 500
    if isinstance(error, DeltaError):
        return not isinstance(error, TableNotFoundError)
    return isinstance(error, OSError | ServiceError) and not isinstance(error, _OF_A_FOLDER)
