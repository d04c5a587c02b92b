"""A model's files, read without loading the model."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from penstock.training.feature_columns import FeatureColumns
from penstock.training.feature_spec import PATH_IN_MODEL, check_feature_spec

_LARGEST_TEXT = 5_000_000
_PYFUNC = "python_function"
_ADDED_BY_THE_REGISTRY = "registered_model_meta"


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
            check_feature_spec(found)
            FeatureColumns.from_list(found["features"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(
                f"its {PATH_IN_MODEL} cannot be used ({type(error).__name__}: {str(error)[:300]}): train it again"
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


def model_digest(folder: Path) -> str:
    """A digest of the names and contents of a model's files, as its run logged them."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != _ADDED_BY_THE_REGISTRY:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
