"""The check that loading a model runs no code of unknown origin. What runs code, and what is vouched for, is decided
where every model is loaded: `penstock.training.serialisation` and `penstock.training.origins`.
"""

from typing import TYPE_CHECKING

from penstock.registry.compliance.registered import check, failed, passed
from penstock.training.model_folder import Unusable
from penstock.training.origins import how_to_adopt, voucher
from penstock.training.serialisation import runs_code

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject


def may_be_loaded(subject: "Subject") -> bool:
    """Whether the model may be loaded here. Raises Unusable."""
    return not runs_code(subject.files) or voucher(subject.provenance.origins) is not None


@check("safe_serialisation", fixed=True)
def check_serialisation(subject: "Subject") -> "Check":
    """Loading it runs no code of unknown origin. Formats that are data pass wherever they come from: LightGBM's text
    (`lightgbm.basic.Booster`), XGBoost's own, skops with estimators and containers only, ONNX, PyTorch's pt2 (whose
    records are looked at when it is loaded: a pickle in one fails `loads`), CatBoost's own, Spark ML with known stages
    and no SQLTransformer. Pickles (also inside .pth files), Python code beside the model, unknown flavours, classes and
    stages, and functions that skops would have to trust pass only if `model_origins` says that this environment's
    training made exactly these files, or that a person vouches for them (`penstock adopt --trust-pickle`). This is
    decided before anything is loaded; otherwise nothing is.
    """
    try:
        reasons = runs_code(subject.files)
    except Unusable as error:
        return failed(f"not loaded: {error}")
    flavor = subject.files.flavor
    if not reasons:
        return passed(f"stored as data, in a format of {flavor} that runs no code", flavor=flavor)
    why, trust = "; ".join(reasons), voucher(subject.provenance.origins)
    if trust is not None:
        return passed(f"loading it runs code ({why}), but {trust}", flavor=flavor, reasons=reasons, trusted=trust)
    return failed(
        f"not loaded: {why}, and its origin is unknown. Log it in a format that is data only (skops, the library's "
        f"own, ONNX, pt2), train it here, or let a person who knows its origin vouch for it: "
        f"{how_to_adopt(subject.registered.name, subject.version.version, trust_pickle=True)}",
        flavor=flavor, reasons=reasons,
    )  # fmt: skip
