"""A version's files, read without loading the model."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from penstock.errors import ServiceError
from penstock.registry.candidates import is_outage
from penstock.registry.client import RegisteredModel
from penstock.training.feature_columns import FeatureColumns
from penstock.training.feature_spec import PATH_IN_MODEL
from penstock.training.origins import model_digest

_LARGEST_TEXT = 5_000_000
_PYFUNC = "python_function"


class Unusable(Exception):
    """The files are not what a version of Penstock holds; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class ModelFiles:
    """The folder that a version's files were fetched to. Nothing in it is ever imported or unpickled here."""

    folder: Path
    uri: str
    problem: str | None = field(default=None)

    @cached_property
    def digest(self) -> str:
        """Of all files."""
        return model_digest(self.folder)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self.names.values())

    @cached_property
    def names(self) -> dict[str, Path]:
        """Every file by its name in the folder."""
        return {
            path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.rglob("*")) if path.is_file()
        }

    @cached_property
    def mlmodel(self) -> dict[str, Any]:
        """MLflow's description of the model. Raises Unusable."""
        text = self._text("MLmodel", "it is no MLflow model, or its files are gone: register it again from its run")
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Unusable(f"its MLmodel is no YAML ({str(error)[:200]}): log the model again") from error
        if not isinstance(found, dict) or not isinstance(found.get("flavors"), dict):
            raise Unusable("its MLmodel names no flavours: log the model again")
        return found

    @cached_property
    def flavor(self) -> str:
        """The library's own flavour, by which the model is loaded. Raises Unusable."""
        for name in self.mlmodel["flavors"]:
            if name != _PYFUNC:
                return str(name)
        raise Unusable("it has no flavour of its own, only python_function: log it in its library's flavour")

    @property
    def flavor_settings(self) -> dict[str, Any]:
        """What the MLmodel says of that flavour."""
        found = self.mlmodel["flavors"][self.flavor]
        return found if isinstance(found, dict) else {}

    @cached_property
    def feature_spec(self) -> dict[str, Any]:
        """feature_spec.json. Raises Unusable."""
        text = self._text(PATH_IN_MODEL, "it was not trained by Penstock: log it with the feature store's log_model")
        try:
            found: dict[str, Any] = json.loads(text)
            FeatureColumns.from_list(found["features"])
            found["entity"]["keys"], found["task"]
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(
                f"its {PATH_IN_MODEL} cannot be used ({type(error).__name__}: {str(error)[:200]}): train it again"
            ) from error
        return found

    @cached_property
    def columns(self) -> FeatureColumns:
        """The features in order. Raises Unusable."""
        return FeatureColumns.from_list(self.feature_spec["features"])

    def _text(self, name: str, remedy: str) -> str:
        if self.problem is not None:
            raise Unusable(self.problem)
        path = self.names.get(name)
        if path is None:
            raise Unusable(f"{self.uri} has no {name}: {remedy}")
        if path.stat().st_size > _LARGEST_TEXT:
            raise Unusable(f"{name} is larger than {_LARGEST_TEXT:,} bytes: log the model again")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise Unusable(f"{name} is no UTF-8 text: log the model again") from error


def fetch_files(registered: RegisteredModel, version: int, folder: Path) -> ModelFiles:
    """A version's files in `folder`; where the registry has none, `problem` says so. Raises ServiceError."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = f"models:/{registered.name}/{version}"
    try:
        return ModelFiles(Path(download_artifacts(artifact_uri=uri, dst_path=str(folder))), uri)
    except (MlflowException, OSError) as error:
        if is_outage(error):
            raise ServiceError(f"MLflow did not answer about {uri}: {str(error)[:300]}. Run this again") from error
        return ModelFiles(
            folder, uri, f"its files cannot be read ({str(error)[:200]}): register it again from a run that has them"
        )
