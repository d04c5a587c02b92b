"""A model's signature, and its size."""

from typing import TYPE_CHECKING

from penstock.gates import some
from penstock.registry.compliance.registered import check, failed, passed

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject


@check("signature")
def check_signature(subject: "Subject") -> "Check":
    """The model has an MLflow signature, and its inputs are the features of feature_spec.json."""
    from mlflow.exceptions import MlflowException
    from mlflow.models.signature import ModelSignature

    missing = failed("the model has no signature: log it with one (mlflow.models.infer_signature)")
    stored = subject.files.mlmodel.get("signature")
    if not stored:
        return missing
    try:
        found = ModelSignature.from_dict(stored)
    except (MlflowException, ValueError, KeyError, TypeError) as error:
        return failed(f"its signature cannot be read ({str(error)[:200]}): log the model with one")
    if not found.inputs:
        return missing
    named, expected = found.inputs.input_names(), subject.files.columns.names
    if sorted(named) != sorted(expected):
        odd = sorted(set(named) ^ set(expected))
        return failed(f"signature and feature_spec.json differ in {some(odd)}: train it again", differ=odd)
    return passed(f"its signature names its {len(named)} features")


@check("size")
def check_size(subject: "Subject") -> "Check":
    """All files of the model together are within `promotion.compliance.max_size_megabytes`. Train a smaller one, or
    raise the budget.
    """
    budget = subject.asked.max_size_megabytes
    size, names = subject.files.size_bytes / 1e6, subject.files.names
    evidence = {"bytes": subject.files.size_bytes, "files": len(names), "budget_megabytes": budget}
    text = f"{len(names)} files with {size:.3g} MB, of at most {budget:g} MB"
    return passed(text, **evidence) if size <= budget else failed(f"too large: {text}", **evidence)
