"""What a request for approval shows, that what was shown is what is promoted, and what is kept of an answer."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.errors import GateError, RegistryError
from penstock.gates import Verdict
from penstock.registry.audit import Snapshot
from penstock.registry.client import RegisteredModel, registered_name
from penstock.registry.comparison_report import comparison_markdown
from penstock.registry.deciding import digest, fingerprint
from penstock.registry.holds import holds
from penstock.registry.notes import Note, NoteKind
from penstock.registry.settling import keep_note
from penstock.training.declared_rule import rule_text
from penstock.workspace import Workspace

SHOWN = "shown"
"""In a promotion's evidence: what the person, or the rule, decided upon."""
_GATES = {"compliance": "compliance_check", "comparison": "compare_with_production"}
"""The gates before an approval, by the key of their verdict in a promotion's evidence, with their tasks."""
_CARDS = ("model_card.md", "description.md")
_LONGEST_CARD = 6000


@dataclass(frozen=True)
class Shown:
    """Fingerprints of the declared rule and of the verdicts that a decision rests on."""

    spec: str
    verdict: str

    def to_dict(self) -> dict[str, str]:
        """JSON values."""
        return {"spec": self.spec, "verdict": self.verdict}


@dataclass(frozen=True)
class Answer:
    """How a request was answered: `option` is one of those offered, or expired; `user` is None where nobody was."""

    option: str
    reason: str
    user: str
    user_id: str | None
    answered_at: str | None


def shown(workspace: Workspace, project: str, model: str, comparison: dict[str, Any]) -> Shown:
    """The fingerprints of what is decided upon now."""
    return Shown(fingerprint(workspace, project, model), digest(comparison))


def check_may_approve(workspace: Workspace, name: str, person: str) -> None:
    """Raises GateError where a person is no approver of this environment.

    :param name: the model and version, for the error.
    """
    environment = workspace.environment
    if not environment.approval.may_approve(person):
        place = workspace.root / "include/environments" / f"{environment.name}.yaml"
        raise GateError(
            f"{name}: {person} is no approver of the environment {environment.name}. Who may approve is set in {place} "
            f"(approval.approvers): {', '.join(environment.approval.approvers)}"
        )


def check_passed(name: str, evidence: dict[str, Any]) -> None:
    """Raises GateError unless the evidence has the verdict of every gate, and each let the version through.

    :param name: the model and version, for the error.
    :param evidence: has the gates' verdicts as `Verdict.to_dict` gives them, by `compliance` and `comparison`.
    """
    for gate, task in _GATES.items():
        found = evidence.get(gate)
        remedy = f"clear {task} in this run (with what follows it), or run model_promotion for this version again"
        if not isinstance(found, dict):
            raise GateError(f"{name} did not go through the gate {gate}, so it is not promoted: {remedy}")
        verdict = Verdict.from_dict(found)
        if not verdict.passed:
            raise GateError(
                f"{name} failed the gate {gate}, so it is not promoted: {verdict.reason}. Once that is mended: {remedy}"
            )


def check_shown(
    workspace: Workspace, project: str, model: str, version: int, evidence: dict[str, Any], *, by_hand: bool = True
) -> None:
    """Raises GateError where the rule or the verdict is no longer what was decided upon.

    Evidence without `shown` is taken as it is from who decides by hand (calls promote in Python), else refused.
    """
    before = evidence.get(SHOWN)
    name = f"{registered_name(project, model)} version {version}"
    again = "clear compare_with_production in this run (with what follows it), and decide again"
    if not isinstance(before, dict):
        if by_hand:
            return
        raise GateError(f"{name}: it is not known upon which comparison and which declaration was decided: {again}")
    now = shown(workspace, project, model, evidence.get("comparison", {}))
    if before["verdict"] != now.verdict:
        raise GateError(f"{name}: the comparison was made again after the decision, which rests on another: {again}")
    if before["spec"] != now.spec:
        raise GateError(
            f"{name}: the declaration of {model} (entity, label, features, metrics, slices or promotion), the module "
            "of a function that it names, or how a feature that it looks up is computed was changed since the "
            f"comparison, so what was decided upon is not what would be promoted: {again}"
        )


def request_text(
    workspace: Workspace, project: str, model: str, version: int, compliance: dict[str, Any],
    comparison: dict[str, Any], links: dict[str, str],
) -> str:  # fmt: skip
    """What a person needs in order to decide, as Markdown: links, marks, the rule, both verdicts, the model card."""
    held = holds(workspace, project, model)
    parts = [" · ".join(f"[{name}]({address})" for name, address in links.items() if address)]
    if version in held.rolled_back:
        parts.append(f"**This version was rolled back** {held.rolled_back[version]}")
    parts.append(f"### the rule\n\n{rule_text(workspace.project(project).model(model))}")
    if comparison:
        parts.append(comparison_markdown(Verdict.from_dict(comparison)))
    if compliance:
        parts.append(Verdict.from_dict(compliance).to_markdown())
    card = _card(RegisteredModel(workspace, project, model), version)
    if card:
        parts.append(f"### model card\n\n{card}")
    parts.append(f"Rule `{fingerprint(workspace, project, model)}`, verdict `{digest(comparison)}`.")
    return "\n\n".join(part for part in parts if part)


def record_answer(
    workspace: Workspace, project: str, model: str, version: int, kind: NoteKind, answer: Answer, as_of: datetime,
    decided_upon: dict[str, Any],
) -> Note:  # fmt: skip
    """Keeps an answer in the audit, once: with the person, the time and the reason."""
    run = workspace.lineage.run
    note_id = f"{model}/{kind}/{version}/{run}/{answer.user}/{answer.answered_at}"
    evidence = {
        "answer": answer.option,
        "user_id": answer.user_id,
        "answered_at": answer.answered_at,
        SHOWN: decided_upon,
    }

    def decide(snapshot: Snapshot) -> Note:
        at = snapshot.next_moment()
        return Note(note_id, model, kind, version, answer.user, answer.reason, as_of, at, evidence, run)

    return keep_note(workspace, project, model, decide)


def _card(registered: RegisteredModel, version: int) -> str:
    """The model card of the version's run, else the version's description; cut."""
    try:
        found = registered.version(version)
    except RegistryError:
        return ""
    texts = (registered.run_text(found, name) for name in _CARDS)
    text = next((text for text in texts if text), None) or found.description or ""
    return text if len(text) <= _LONGEST_CARD else f"{text[:_LONGEST_CARD]} …"
