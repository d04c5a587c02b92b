"""Whether loading a model runs code: decided by its files and its origin, before anything is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.registry.compliance.files import ModelFiles, Unusable
from penstock.registry.compliance.registered import check, failed, passed, some

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject

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


def may_be_loaded(subject: "Subject") -> bool:
    """Whether the model may be loaded here. Raises Unusable."""
    return not runs_code(subject.files) or _trusted(subject) is not None


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
        yield f"it holds pickles: {some(pickles)}"
    strange = sorted(str(name) for name in settings.get("skops_trusted_types") or () if not _known_type(str(name)))
    if strange:
        yield f"skops would have to trust types from outside its library: {some(strange)}"


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


def _trusted(subject: "Subject") -> str | None:
    """Why files that run code may be loaded all the same; None where they may not."""
    found = subject.provenance
    if found.adopted is not None and found.adopted.trusts_pickle:
        return f"{found.adopted.decided_by} vouches for it ({found.adopted.reason})"
    if found.trained is not None:
        return f"this environment's training made it (run {found.trained.run_id})"
    return None


@check("safe_serialisation", fixed=True)
def check_serialisation(subject: "Subject") -> "Check":
    """Loading it runs no code of unknown origin. Data-only formats pass wherever they come from: LightGBM's and
    XGBoost's own, skops with types of its library, ONNX, PyTorch's pt2, CatBoost's own, Spark ML. Pickles (also
    inside .pth files), Python code beside the model, unknown flavours and foreign skops types pass only if
    `model_origins` says that this environment's training made exactly these files, or that a person vouches for
    them (`penstock adopt --trust-pickle`). This is decided before anything is loaded; otherwise nothing is.
    """
    try:
        reasons = runs_code(subject.files)
    except Unusable as error:
        return failed(f"not loaded: {error}")
    flavor = subject.files.flavor
    if not reasons:
        return passed(f"stored as data, in a format of {flavor} that runs no code", flavor=flavor)
    why, trust = "; ".join(reasons), _trusted(subject)
    if trust is not None:
        return passed(f"loading it runs code ({why}), but {trust}", flavor=flavor, reasons=reasons, trusted=trust)
    return failed(
        f"not loaded: {why}, and its origin is unknown. Log it in a format that is data only (skops, the library's "
        f"own, ONNX, pt2), train it here, or let a person who knows its origin vouch for it: penstock adopt "
        f"{subject.registered.name} {subject.version.version} --trust-pickle --reason WHY",
        flavor=flavor, reasons=reasons,
    )  # fmt: skip
