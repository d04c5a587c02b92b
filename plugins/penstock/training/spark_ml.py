"""Spark ML: models that live on the Spark server, fitted and asked in a session, kept in folders that both sides see.

Over Spark Connect pyspark.ml finds its session in the thread and a variable of the process, and reads and writes
models where the server can: so a model goes through a folder of the lakehouse on its way to MLflow and back.
"""

import os
import shutil
import uuid
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.features.staging import remove_staging
from penstock.lakehouse.session import spark_outages
from penstock.spec.project import Training
from penstock.training.errors import ScoringError, TrainingError
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from mlflow.models import Model
    from pyarrow.fs import FileSystem
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

FLAVOR = "spark"
FOLDER = "sparkml"  # where MLflow's flavour keeps the model in its folder
_MODE = "SPARK_CONNECT_MODE_ENABLED"
_ROW = "_row"


@dataclass(frozen=True)
class SparkSide:
    """A session of the server at `url`, and the address of a folder that this process and the server both reach."""

    session: "SparkSession"
    url: str
    shared: str

    def frame(self, features: "pd.DataFrame", **columns: Any) -> "DataFrame":
        """Prepared features (strings and doubles, null for missing) and further columns, by Arrow."""
        import pyarrow as pa

        table = pa.Table.from_pandas(features, preserve_index=False)
        for position, name in enumerate(table.column_names):
            if pa.types.is_dictionary(table.schema.field(name).type):
                table = table.set_column(position, name, table[name].cast(pa.string()))
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        return self.session.createDataFrame(table)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within, pyspark.ml works in this session, whatever else the process does."""
        from pyspark.sql.connect.session import SparkSession

        place = SparkSession._active_session  # of the thread
        before, mode = getattr(place, "session", None), os.environ.get(_MODE)
        place.session = self.session
        os.environ[_MODE] = "1"
        try:
            yield
        finally:
            place.session = before
            if mode is None:
                os.environ.pop(_MODE, None)

    def ask(self, transformer: Any, features: "pd.DataFrame") -> "np.ndarray":
        """The probability of label 1 where the model gives probabilities, else its prediction; in the rows' order.

        Raises ServiceError where Spark went away; what it says of rows that a stage does not take stays as it is.
        """
        import numpy as np
        from pyspark.ml.functions import vector_to_array
        from pyspark.sql.connect import functions as F

        with spark_outages(self.url), self.current():
            answered = transformer.transform(self.frame(features, **{_ROW: np.arange(len(features))}))
            if "probability" in answered.columns:
                answer = vector_to_array(F.col("probability"))[1]
            elif "prediction" in answered.columns:
                answer = F.col("prediction")
            else:
                raise ScoringError(f"{type(transformer).__name__} adds neither a column probability nor prediction")
            found = answered.select(F.col(_ROW), answer.cast("double").alias("answer")).toArrow()
        return found.sort_by(_ROW)["answer"].to_numpy()

    def save(self, transformer: Any, folder: Path) -> None:
        """Writes a fitted model as a PipelineModel's folder on this machine: JSON and Parquet files."""
        from pyspark.ml import PipelineModel

        whole = transformer if isinstance(transformer, PipelineModel) else PipelineModel([transformer])
        with self._passing() as shared:
            with self.current():
                whole.write().overwrite().save(shared)
            _copy(shared, str(folder))

    def load(self, folder: Path) -> Any:
        """The model of a folder on this machine, on the server."""
        from pyspark.ml import PipelineModel

        with self._passing() as shared:
            _copy(str(folder), shared)
            with self.current():
                return PipelineModel.load(shared)

    @contextmanager
    def _passing(self) -> Iterator[str]:
        """A folder for one model on its way, gone afterwards."""
        folder = f"{self.shared}_{uuid.uuid4().hex}"
        try:
            yield folder
        finally:
            remove_staging(folder)


class SparkModel:
    """A fitted Spark ML model that is asked like any other: predict(prepared features) -> one number a row."""

    def __init__(self, transformer: Any, side: SparkSide) -> None:
        if not hasattr(transformer, "transform"):
            raise TrainingError(
                f"{type(transformer).__name__} has no transform: a training function of training.flavor spark "
                "returns a fitted model of pyspark.ml, such as a PipelineModel"
            )
        self.transformer, self.side = transformer, side

    def predict(self, features: "pd.DataFrame") -> "np.ndarray":
        """float64 of length n."""
        return self.side.ask(self.transformer, features)


@dataclass(frozen=True)
class StoredSparkModel:
    """A logged Spark ML model's files; `bound` to a workspace it can be asked."""

    files: Path

    @classmethod
    def of(cls, model_folder: Path) -> "StoredSparkModel":
        """Of a downloaded MLflow model, whose files are kept as long as this is used."""
        import tempfile

        kept = Path(tempfile.mkdtemp(prefix="penstock-spark-model-"))
        shutil.copytree(model_folder / FOLDER, kept / FOLDER)
        found = cls(kept / FOLDER)
        weakref.finalize(found, shutil.rmtree, kept, ignore_errors=True)
        return found

    def bound(self, workspace: Workspace, project: str) -> "LoadedSparkModel":
        """The model, asked through this workspace's Spark."""
        return LoadedSparkModel(self, workspace, project)


@dataclass(frozen=True, eq=False)
class LoadedSparkModel:
    """A logged model that loads itself into a session when it is first asked, and keeps both while it is used."""

    stored: StoredSparkModel
    workspace: Workspace = field(repr=False)
    project: str
    _open: dict[str, SparkModel] = field(default_factory=dict, repr=False)

    def predict(self, features: "pd.DataFrame") -> "np.ndarray":
        """float64 of length n."""
        if "model" not in self._open:
            stack = ExitStack()
            side = stack.enter_context(spark_side(self.workspace, self.project))
            with spark_outages(side.url):
                self._open["model"] = SparkModel(side.load(self.stored.files), side)
            weakref.finalize(self, stack.close)
        return self._open["model"].predict(features)


@contextmanager
def spark_side(workspace: Workspace, project: str) -> Iterator[SparkSide]:
    """A session of its own, apart from the task's, which other steps open and stop; it commits nothing."""
    shared = workspace.addresses.writable(f"{project}._spark_model")
    with workspace.with_(session_key=None).spark() as session:
        yield SparkSide(session, workspace.resolved.spark_url, shared)


def learning_side(workspace: Workspace, project: str, training: Training) -> AbstractContextManager[SparkSide | None]:
    """The session in which models of the flavour spark are fitted; None for any other."""
    return spark_side(workspace, project) if training.flavor == FLAVOR else nullcontext()


def save_spark_model(
    model: Any, path: Path, mlflow_model: "Model", *, pip_requirements: list[str], extra_files: list[str]
) -> None:
    """Writes a fitted model as a folder of MLflow's flavour spark. Raises TrainingError for any other model."""
    from mlflow.spark import _save_model_metadata  # its save_model asks the JVM of a classic session

    if not isinstance(model, SparkModel):
        raise TrainingError(f"{type(model).__name__} was not fitted by Spark ML in this training")
    path.mkdir(parents=True)
    model.side.save(model.transformer, path / FOLDER)
    (path / "extra_files").mkdir()
    for file in extra_files:
        shutil.copy(file, path / "extra_files")
    _save_model_metadata(
        dst_dir=str(path), spark_model=model.transformer, mlflow_model=mlflow_model, conda_env=None, code_paths=None,
        signature=mlflow_model.signature, pip_requirements=pip_requirements,
    )  # fmt: skip


def _copy(source: str, destination: str) -> None:
    from pyarrow.fs import copy_files

    files, path = _file_system(source)
    others, target = _file_system(destination)
    others.create_dir(target, recursive=True)
    copy_files(path, target, source_filesystem=files, destination_filesystem=others)


def _file_system(path: str) -> tuple["FileSystem", str]:
    from pyarrow.fs import FileSystem, LocalFileSystem

    return FileSystem.from_uri(path) if "://" in path else (LocalFileSystem(), path)
