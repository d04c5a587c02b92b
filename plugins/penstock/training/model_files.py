"""Logs a fitted model in its library's own MLflow flavour, with feature_spec.json beside it."""

import importlib.metadata
import inspect
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError
from penstock.spec.project import ColumnType, Training
from penstock.training.errors import TrainingError
from penstock.training.feature_columns import FeatureColumns
from penstock.training.feature_spec import FILE_NAME
from penstock.training.mlflow_client import outages
from penstock.training.model_folder import model_digest
from penstock.training.spark_ml import save_spark_model
from penstock.training.torch_models import save_module

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model, ModelSignature

EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class ModelParts:
    """A fitted model and what is stored with it. example: a few rows of raw feature columns."""

    model: Any
    columns: FeatureColumns
    feature_spec_json: str
    example: "pd.DataFrame"


@dataclass(frozen=True)
class LoggedModel:
    """A model in MLflow: its address `models:/<id>`, and the digest of the files that were sent there."""

    uri: str
    digest: str


def log_native_model(parts: ModelParts, training: Training) -> LoggedModel:
    """Logs a model to the active run.

    The model's folder holds the library's own files, MLflow's signature and pinned requirements, and
    `extra_files/feature_spec.json` and `extra_files/example_rows.json` (raw rows, as the scorer takes them).
    Raises TrainingError for an unknown flavour, or one that this model is not of; ServiceError where MLflow does not
    answer.
    """
    import mlflow

    flavor = find_flavor(training.flavor)
    # without requirements MLflow spends seconds on guessing them
    requirements = pinned_requirements(training.requirements) or flavor.get_default_pip_requirements()
    with tempfile.TemporaryDirectory() as folder:
        spec, rows = Path(folder, FILE_NAME), Path(folder, "example_rows.json")
        spec.write_text(parts.feature_spec_json, encoding="utf-8")
        parts.example[parts.columns.names].to_json(rows, orient="records", indent=1)
        given = {"pip_requirements": requirements, "extra_files": [str(spec), str(rows)]}
        try:
            with outages(mlflow.get_tracking_uri()):
                return _log_folder(parts, training.flavor, given)
        except PenstockError:
            raise
        except Exception as error:  # each library refuses a foreign model in its own way
            raise TrainingError(
                f"{type(parts.model).__module__}.{type(parts.model).__name__} cannot be logged as "
                f"training.flavor {training.flavor}: {type(error).__name__}: {str(error)[:300]}"
            ) from error


def _log_folder(parts: ModelParts, name: str, given: dict[str, Any]) -> LoggedModel:
    """Writes the model's folder by its flavour and has MLflow send it, as the flavours' own `log_model` do; the digest
    is taken in between, so that nobody can exchange a file before it is known.
    """
    from mlflow.models import Model

    digests = []

    def save_model(path: str, mlflow_model: Model, **_: Any) -> None:
        _WRITERS.get(name, _write)(parts, name, Path(path), mlflow_model, given)
        for cache in Path(path).rglob("__pycache__"):  # which MLflow leaves out
            shutil.rmtree(cache)
        digests.append(model_digest(Path(path)))

    writer = SimpleNamespace(save_model=save_model, __name__=f"mlflow.{name}")
    # MLflow's own trial of the example may write into the folder; the compliance check makes a better one
    info = Model.log(artifact_path=None, name="model", flavor=writer, validate_serving_input=False)
    return LoggedModel(str(info.model_uri), digests[0])


def _write(parts: ModelParts, name: str, path: Path, mlflow_model: "Model", given: dict[str, Any]) -> None:
    flavor = find_flavor(name)
    options = {"signature": _signature(parts.columns), **_trusted_types(flavor, parts.model)}
    if not parts.columns.categorical:
        # MLflow tries an example on its plain python_function, which knows no pandas categories
        options["input_example"] = parts.columns.prepare(parts.example)
    flavor.save_model(parts.model, str(path), mlflow_model=mlflow_model, **given, **options)


def _write_torch(parts: ModelParts, _: str, path: Path, mlflow_model: "Model", given: dict[str, Any]) -> None:
    mlflow_model.signature = _signature(parts.columns)
    save_module(parts.model, path, mlflow_model, example=parts.columns.prepare(parts.example), **given)


def _write_spark(parts: ModelParts, _: str, path: Path, mlflow_model: "Model", given: dict[str, Any]) -> None:
    mlflow_model.signature = _signature(parts.columns)
    save_spark_model(parts.model, path, mlflow_model, **given)


_WRITERS = {"pytorch": _write_torch, "spark": _write_spark}
"""Flavours whose models take more to be written than their MLflow flavour does."""


def pinned_requirements(packages: list[str]) -> list[str]:
    """Each package with its installed version, where it names none. Raises TrainingError for a missing one."""
    from packaging.requirements import InvalidRequirement, Requirement

    pinned = []
    for text in packages:
        try:
            wanted = Requirement(text)
            pinned.append(
                text if wanted.specifier or wanted.url else f"{text}=={importlib.metadata.version(wanted.name)}"
            )
        except InvalidRequirement as error:
            raise TrainingError(f"training.requirements: {text!r} is no requirement: {error}") from error
        except importlib.metadata.PackageNotFoundError as error:
            raise TrainingError(
                f"training.requirements: {text!r} is not installed here, so it has no version"
            ) from error
    return pinned


def find_flavor(name: str) -> Any:
    """MLflow's module of a flavour. Raises TrainingError where it is unknown, or its library is not installed."""
    import mlflow

    flavor = getattr(mlflow, name, None)
    try:
        save_model = getattr(flavor, "save_model", None)
    except ModuleNotFoundError as error:
        raise TrainingError(f"training.flavor {name}: {error}. Add the package to requirements.in") from error
    if save_model is None or not (name in _WRITERS or "extra_files" in inspect.signature(save_model).parameters):
        raise TrainingError(
            f"training.flavor {name!r} is no MLflow flavour that stores a model with extra files: use lightgbm, "
            "sklearn, xgboost, pytorch, spark, or another that does"
        )
    return flavor


def _signature(columns: FeatureColumns) -> "ModelSignature":
    """Numbers as double, strings as string: what `FeatureColumns.prepare` makes, nulls allowed in both."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string if feature.type is ColumnType.STRING else DataType.double, feature.name)
                for feature in columns.features
            ]
        ),
        outputs=Schema([ColSpec(DataType.double)]),
    )


def _trusted_types(flavor: Any, model: Any) -> dict[str, Any]:
    """The classes inside a scikit-learn style model, which has just been fitted here by the project's own code.

    MLflow stores such models with skops, which loads only classes that it knows or that are named.
    """
    if not hasattr(model, "get_params") or "skops_trusted_types" not in inspect.signature(flavor.save_model).parameters:
        return {}
    import skops.io

    return {"skops_trusted_types": skops.io.get_untrusted_types(data=skops.io.dumps(model))}
