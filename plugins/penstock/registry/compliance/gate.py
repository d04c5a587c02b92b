"""Makes every check of a version, static ones first, and writes the verdict down."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import raise_outage
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance import (  # noqa: F401 - each registers its checks
    behaviour,
    documentation,
    features,
    own_environment,
    personal_data,
    provenance,
    requirements,
    serialisation,
    signature,
)  # fmt: skip
from penstock.registry.compliance.files import fetch_files
from penstock.registry.compliance.record import record_verdict, without_section
from penstock.registry.compliance.registered import CHECKS, RegisteredCheck
from penstock.registry.compliance.report import write_report
from penstock.registry.compliance.subject import Subject
from penstock.registry.compliance.trial import Trial
from penstock.registry.declared import why_undeclared
from penstock.spec.compliance import Severity
from penstock.spec.functions import load_function
from penstock.spec.names import COMPLIANCE_CHECKS
from penstock.training.model_folder import Unusable
from penstock.workspace import Workspace

GATE = "compliance"


def check_compliance(
    workspace: Workspace, project_name: str, model_name: str, version: int, as_of: datetime
) -> Verdict:
    """Checks what is required of any version; moves no stage. Every check is made, so that all faults show at once.

    Of a version that passes, the files that were judged are the only ones that are loaded as it from now on. The
    outcome goes to the version's tags (penstock.compliance, penstock.compliance_reason, penstock.origin) and into a
    section of its description, which a repeat replaces. A version of a project or model that is not declared here
    fails. Raises RegistryError for an unknown version, ServiceError where MLflow does not answer.
    """
    registered = RegisteredModel(workspace, project_name, model_name)
    found = registered.version(version)
    described = without_section(found.description or "")
    about = f"{registered.name} version {version}"
    why = why_undeclared(workspace, project_name, model_name)
    if why is not None:
        verdict = Verdict(GATE, about, (Check("project", Outcome.FAIL, why),))
        record_verdict(registered, version, described, verdict, None, as_of)
        return verdict
    with open_subject(workspace, project_name, model_name, version, as_of) as subject:
        verdict = Verdict(GATE, about, tuple(_make(subject)))
        if verdict.passed:
            provenance.keep_judged(subject)
        record_verdict(registered, version, described, verdict, subject.provenance.said, as_of)
        write_report(subject, verdict)
    return verdict


@contextmanager
def open_subject(
    workspace: Workspace, project_name: str, model_name: str, version: int, as_of: datetime
) -> Iterator[Subject]:
    """A version with its files in a folder of their own, which goes away on leaving. Raises as `check_compliance`."""
    registered = RegisteredModel(workspace, project_name, model_name)
    found, project = registered.version(version), workspace.project(project_name)
    with tempfile.TemporaryDirectory(prefix="penstock-compliance-") as folder:
        files = fetch_files(workspace, registered, version, Path(folder))
        described = without_section(found.description or "")
        yield Subject(workspace, project, model_name, registered, found, files, described, as_of)


def checks_of(subject: Subject) -> list[RegisteredCheck]:
    """The checks of a version: the built-in ones, then the project's own."""
    own = [
        RegisteredCheck(name, load_function(subject.project, function), on_loaded=True)
        for name, function in subject.asked.own.items()
    ]
    return [*every_check(), *own]


def _make(subject: Subject) -> list[Check]:
    try:
        every = checks_of(subject)
    except Exception as error:  # a project's own module may do anything while it is imported
        every = every_check()
        own = [Check("own_checks", Outcome.FAIL, f"the project's own checks cannot be made: {error}")]
    else:
        own = []
    switched: list[str] = []
    static = [_answer(one, subject, switched) for one in every if not one.on_loaded]
    later = [one for one in every if one.on_loaded]
    answered = [
        _answer(one, subject, switched) if _possible(one, subject.trial) else _not_tried(one, subject, switched)
        for one in later
    ]
    checks = [check for check in [*static, *answered, *own] if check is not None]
    if switched:
        checks.append(Check("switched_off", Outcome.PASS, f"not asked here: {', '.join(switched)}"))
    return checks


def _possible(one: RegisteredCheck, trial: Trial | None) -> bool:
    return trial is not None and (trial.loaded or one.name == "loads")


def _not_tried(one: RegisteredCheck, subject: Subject, switched: list[str]) -> Check | None:
    """What must be loaded and cannot fails; what would be asked of it then is only named."""
    found = _answer(
        replace(one, function=lambda _: Check("", Outcome.WARN, "not tried, since it was not loaded")),
        subject,
        switched,
    )
    if found is not None and one.name == "loads":
        return replace(found, outcome=Outcome.FAIL, detail=subject.attempt.obstacle)
    return found


def _answer(one: RegisteredCheck, subject: Subject, switched: list[str]) -> Check | None:
    """A check's answer, with its severity applied; None where it is switched off."""
    severity, said_by = one.severity_in(subject.workspace.environment, subject.asked)
    if severity is Severity.OFF:
        switched.append(f"{one.name} ({said_by})")
        return None
    found = replace(_call(one.function, one.name, subject), name=one.name)
    evidence = {**found.evidence, "severity": str(severity), "severity_by": said_by}
    lessened = found.outcome is Outcome.FAIL and severity is Severity.WARN
    return replace(found, outcome=Outcome.WARN if lessened else found.outcome, evidence=evidence)


def _call(function: Callable[[Subject], Check], name: str, subject: Subject) -> Check:
    try:
        found = function(subject)
    except Unusable as error:
        return Check(name, Outcome.FAIL, str(error))
    except Exception as error:  # files of unknown origin and a project's own checks may break anything
        raise_outage(error, f"the check {name} of {subject.files.uri}")
        return Check(name, Outcome.FAIL, f"the check itself failed: {type(error).__name__}: {str(error)[:300]}")
    if not isinstance(found, Check):
        return Check(name, Outcome.FAIL, f"the check returned {type(found).__name__}, not a penstock.gates.Check")
    return found


def every_check() -> list[RegisteredCheck]:
    """The built-in checks, in the order in which they are made: static ones first."""
    return [CHECKS[name] for name in COMPLIANCE_CHECKS]
