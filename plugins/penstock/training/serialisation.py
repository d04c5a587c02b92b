"""Whether loading a model runs code that came with it: decided by its files, before anything is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.training.model_folder import ModelFiles

_MOST_NAMED = 5
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pth", ".pt", ".npy")
# the serialization_format of each flavour when no pickle is involved; None where it has no such setting
_FORMATS: dict[str, tuple[str | None, ...]] = {
    "lightgbm": ("skops",), "xgboost": (None,), "sklearn": ("skops",), "onnx": (None,), "pytorch": ("pt2",),
    "catboost": (None,), "spark": (None,),
}  # fmt: skip
_OWN_CLASSES = {"lightgbm": "lightgbm.", "xgboost": "xgboost."}
_SKOPS_TRUSTED = ("sklearn.", "lightgbm.", "xgboost.", "numpy.dtype", "numpy.ndarray", "builtins.", "collections.")
_SKOPS_REFUSED = ("builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__", "builtins.open",
                  "builtins.compile", "sklearn.preprocessing._function_transformer.")  # fmt: skip


def runs_code(files: ModelFiles) -> list[str]:
    """Why loading these files would run code that came with them; empty for data-only formats. Raises Unusable."""
    return list(_reasons(files))


def _reasons(files: ModelFiles) -> Iterator[str]:
    flavor, settings = files.flavor, files.flavor_settings
    if flavor not in _FORMATS:
        yield f"nothing is known about how MLflow's flavour {flavor} stores models"
    else:
        yield from _format(flavor, settings)
    if code := settings.get("code") or files.mlmodel["flavors"].get("python_function", {}).get("code"):
        yield f"it brings Python code of its own ({code})"
    loader = files.mlmodel["flavors"].get("python_function", {}).get("loader_module")
    if loader not in (None, f"mlflow.{flavor}"):
        yield f"MLflow would load it by {loader}"
    pickles = [name for name, path in files.names.items() if _is_pickle(name, path)]
    if pickles:
        yield f"it holds pickles: {_some(pickles)}"
    strange = sorted(str(name) for name in settings.get("skops_trusted_types") or () if not _known_type(str(name)))
    if strange:
        yield f"skops would have to trust types from outside its library: {_some(strange)}"


def _format(flavor: str, settings: dict[str, Any]) -> Iterator[str]:
    stored = settings.get("serialization_format")
    prefix, named = _OWN_CLASSES.get(flavor), str(settings.get("model_class") or "")
    if prefix and named and not named.startswith(prefix):
        yield f"its class {named} is none of {flavor}"
    booster = flavor == "lightgbm" and (not named or named.endswith(".Booster"))  # always its own text format
    native = booster or stored in _FORMATS[flavor]
    if not native:
        yield f"it is stored as {stored or 'pickle'}"


def _known_type(name: str) -> bool:
    return name.startswith(_SKOPS_TRUSTED) and not name.startswith(_SKOPS_REFUSED)


def _is_pickle(name: str, path: Path) -> bool:
    if name.lower().endswith(_PICKLES):
        return not name.endswith(".pt2")
    with path.open("rb") as file:
        head = file.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
