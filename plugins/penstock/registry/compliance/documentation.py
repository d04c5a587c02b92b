"""What people must have written about a version."""

from typing import TYPE_CHECKING

from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.spec.compliance import Severity

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject

MODEL_CARD = "model_card.md"


@check("description")
def check_description(subject: "Subject") -> "Check":
    """The version, or its run (description.md), says what it is. Explain the model, or write one in MLflow."""
    text = subject.described.strip() or (subject.registered.run_text(subject.version, "description.md") or "").strip()
    if not text:
        return failed(
            "the version has no description, and its run no description.md: explain the model, or write one in MLflow"
        )
    return passed(f"described in {len(text.split())} words")


@check("owner_and_limits")
def check_responsibility(subject: "Subject") -> "Check":
    """project.yaml names an owner and the model's limits: what it must not be used for. Missing limits only warn."""
    model = subject.model
    owner = model.owner or subject.project.spec.owner
    if not model.limits.strip():
        file = subject.project.folder / "project.yaml"
        return warned(
            f"{owner} owns it, but {file} declares no limits of {subject.model_name}: say what it must not be used for"
        )
    return passed(f"{owner} owns it; its limits are declared", owner=owner)


@check("model_card", Severity.WARN)
def check_model_card(subject: "Subject") -> "Check":
    """The run that made it has a model card (model_card.md), as training's evaluation writes it."""
    text = (subject.registered.run_text(subject.version, MODEL_CARD) or "").strip()
    if not text:
        return failed(f"its run has no {MODEL_CARD}: train it with the pipeline, or log a card to the run")
    return passed(f"its model card has {len(text.split())} words")


@check("required_tags")
def check_tags(subject: "Subject") -> "Check":
    """Every tag in promotion.required_tags is there and not empty."""
    required = subject.model.promotion.required_tags
    missing = [name for name in required if not subject.version.tags.get(name, "").strip()]
    if missing:
        return failed(
            f"the version lacks the required tag(s) {', '.join(missing)}: set them in MLflow, or train it with the "
            "pipeline",
            required=required, missing=missing,
        )  # fmt: skip
    return passed(f"has the {len(required)} required tags", required=required)
