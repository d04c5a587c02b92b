"""The compliance check: what must hold for any version, whatever its quality; the outcome stays with the version."""

import re
from datetime import datetime

from penstock.clock import to_text
from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel, cut
from penstock.registry.compliance_checks import (
    Subject,
    check_description,
    check_features_declared,
    check_features_in_lakehouse,
    check_responsibility,
    check_scores,
    check_signature,
    check_tags,
)
from penstock.training.errors import ScoringError
from penstock.workspace import Workspace

GATE = "compliance"
TAG, REASON_TAG = "penstock.compliance", "penstock.compliance_reason"
_BEGIN, _END = "<!-- penstock:compliance -->", "<!-- /penstock:compliance -->"
_SECTION = re.compile(rf"\n*{re.escape(_BEGIN)}.*?({re.escape(_END)}|\Z)", re.DOTALL)
_LONGEST_DESCRIPTION = 4800
_LONGEST_SECTION = 2400


def check_compliance(
    workspace: Workspace, project_name: str, model_name: str, version: int, as_of: datetime
) -> Verdict:
    """Loads a version from the registry and checks what is required of any; moves no stage.

    The outcome goes to the version's tags (penstock.compliance, penstock.compliance_reason) and into a section
    of its description, which a repeat replaces. Every check is made, so that all faults show at once.
    Raises RegistryError for an unknown version, ServiceError where MLflow does not answer.
    """
    project = workspace.project(project_name)
    project.model(model_name)
    registered = RegisteredModel(workspace, project_name, model_name)
    found = registered.version(version)
    described = without_section(found.description or "")
    subject = Subject(workspace, project, model_name, registered, found)
    verdict = Verdict(GATE, f"{registered.name} version {version}", tuple(_checks(subject, described)))
    registered.tag(version, {TAG: "pass" if verdict.passed else "fail", REASON_TAG: verdict.reason})
    registered.describe(version, with_section(described, verdict, as_of))
    return verdict


def with_section(text: str, verdict: Verdict, as_of: datetime) -> str:
    """A description with the verdict at its end, in place of an earlier one, cut to what the registry takes."""
    body = cut(f"{verdict.to_markdown()}\n\nAs of {to_text(as_of)}.", _LONGEST_SECTION)
    section = f"{_BEGIN}\n{body}\n{_END}"
    return f"{cut(without_section(text), _LONGEST_DESCRIPTION - len(section))}\n\n{section}".lstrip()


def without_section(text: str) -> str:
    """A description as its author wrote it."""
    return _SECTION.sub("", text).strip()


def _checks(subject: Subject, described: str) -> list[Check]:
    always = [check_description(subject, described), check_responsibility(subject), check_tags(subject)]
    try:
        scorer = load_version(subject.workspace, subject.registered.name, int(subject.version.version))
    except ScoringError as error:
        return [Check("loads", Outcome.FAIL, str(error)), *always]
    loads = Check("loads", Outcome.PASS, f"loads from the registry, asks for {len(scorer.columns.names)} features")
    return [
        loads,
        check_signature(subject, scorer),
        *always,
        check_scores(subject, scorer),
        check_features_declared(subject, scorer),
        check_features_in_lakehouse(subject, scorer),
    ]
