"""Whether loading a model runs code that came with it: decided by its files, before anything is loaded.

What MLflow's flavours do with a file is decided by words of the MLmodel, which whoever made the files chose. So exactly
the combinations count as data that MLflow is known to read as data; whatever else is said there counts as code.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from penstock.gates import some
from penstock.training.model_folder import ModelFiles
from penstock.training.skops_types import known_type
from penstock.training.spark_stages import strange_stages

SKOPS = "skops"
SWITCH = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pth", ".pt", ".npy")
# the serialization_format of each flavour when no pickle is involved; None where it has no such setting
_FORMATS: dict[str, str | None] = {
    "lightgbm": SKOPS, "xgboost": None, "sklearn": SKOPS, "onnx": None, "pytorch": "pt2", "catboost": None,
    "spark": None,
}  # fmt: skip
_TEXT_BOOSTER = "lightgbm.basic.Booster"  # the one class that MLflow reads as LightGBM's text
_CLASSES = {
    "lightgbm": (_TEXT_BOOSTER, *(f"lightgbm.sklearn.LGBM{kind}" for kind in ("Classifier", "Regressor", "Ranker"))),
    "xgboost": (
        "xgboost.core.Booster",
        *(f"xgboost.sklearn.XGB{kind}" for kind in ("Classifier", "Regressor", "Ranker")),
        *(f"xgboost.sklearn.XGBRF{kind}" for kind in ("Classifier", "Regressor")),
    ),
}
# where a flavour, and python_function, say which file or folder holds the model
_PLACES = ("data", "pickled_model", "model_data", "model_path")
_LOCK = RLock()


def runs_code(files: ModelFiles) -> list[str]:
    """Why loading these files would run code that came with them; empty for data-only formats. Raises Unusable.

    For those it holds if they are loaded `as_data`: MLflow looks into a pt2 archive only then.
    """
    return list(_reasons(files))


def is_skops(files: ModelFiles) -> bool:
    """Whether it is stored by skops, which MLflow loads only where pickles are allowed. Raises Unusable."""
    return files.flavor_settings.get("serialization_format") == SKOPS


@contextmanager
def as_data(files: ModelFiles, *, trusted: bool) -> Iterator[None]:
    """Within, MLflow unpickles nothing, unless somebody vouches for the files. One load of the process at a time.

    With skops its switch has to stay as it is: there the types decide, which `runs_code` has seen.
    """
    with _LOCK:
        before = os.environ.get(SWITCH)
        if not trusted and not is_skops(files):
            os.environ[SWITCH] = "false"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(SWITCH, None)
            else:
                os.environ[SWITCH] = before


def _reasons(files: ModelFiles) -> Iterator[str]:
    flavor, settings, pyfunc = files.flavor, files.flavor_settings, _pyfunc(files)
    if flavor not in _FORMATS:
        yield f"nothing is known about how MLflow's flavour {flavor} stores models"
    else:
        yield from _format(flavor, settings)
    if code := settings.get("code") or pyfunc.get("code"):
        yield f"it brings Python code of its own ({code})"
    if (loader := pyfunc.get("loader_module")) not in (None, f"mlflow.{flavor}"):
        yield f"MLflow would load it by {loader}"
    yield from _places(settings, pyfunc)
    pickles = [name for name, path in files.names.items() if _is_pickle(name, path)]
    if pickles:
        yield f"it holds pickles: {some(pickles)}"
    yield from _skops_types(settings)
    if flavor == "spark" and (stages := strange_stages(files.names)):
        yield f"its stages are not all known to hold data only: {some(stages)}"


def _format(flavor: str, settings: dict[str, Any]) -> Iterator[str]:
    stored = settings.get("serialization_format")
    named = None
    if flavor in _CLASSES:
        named = settings.get("model_class", _CLASSES[flavor][0])  # as MLflow does, where nothing is said
        if named not in _CLASSES[flavor]:
            yield f"its class {named} is none of {flavor}"
    if named != _TEXT_BOOSTER and stored != _FORMATS[flavor]:
        yield f"it is stored as {stored or 'pickle'}"


def _places(settings: dict[str, Any], pyfunc: dict[str, Any]) -> Iterator[str]:
    """The flavour and python_function must read the same file, at the top: beside another MLmodel it might be read
    by other settings than those that were judged.
    """
    said = {str(part[name]) for part in (settings, pyfunc) for name in _PLACES if part.get(name) is not None}
    strange = sorted(place for place in said if "/" in place or "\\" in place or place in ("", ".", ".."))
    if strange:
        yield f"it points to files elsewhere: {some(strange)}"
    if len(said) > 1:
        yield f"it names more than one file as the model: {some(sorted(said))}"


def _skops_types(settings: dict[str, Any]) -> Iterator[str]:
    types = settings.get("skops_trusted_types") or []
    if not isinstance(types, list):
        yield f"its skops_trusted_types are no list: {str(types)[:100]}"
    elif strange := sorted(str(name) for name in types if not known_type(name)):
        yield f"skops would have to trust types that are not known to hold data only: {some(strange)}"


def _pyfunc(files: ModelFiles) -> dict[str, Any]:
    found = files.mlmodel["flavors"].get("python_function")
    return found if isinstance(found, dict) else {}


def _is_pickle(name: str, path: Path) -> bool:
    """By its name or its first bytes; a pickle of protocol 0 or 1 has none of its own."""
    if name.lower().endswith(_PICKLES):
        return not name.endswith(".pt2")
    with path.open("rb") as file:
        head = file.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
