"""The gate between a candidate and production: asks every method that the spec names, and puts the answers together."""

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.gates import Check, Outcome, Verdict
from penstock.registry.client import RegisteredModel
from penstock.registry.comparison_report import keep_report
from penstock.registry.comparison_rows import recorded_reference, write_comparison
from penstock.registry.contest import Contest
from penstock.registry.deployments import named
from penstock.registry.history import REFERENCE
from penstock.registry.methods import Finding, Pending, method_of
from penstock.registry.production import settled_production
from penstock.training.errors import ScoringError
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

GATE = "comparison"


def compare_with_production(
    workspace: Workspace, project_name: str, model_name: str, version: int, as_of: datetime
) -> Verdict | Pending:
    """Whether a candidate may replace production, by the rule of `promotion`; recorded in model_comparisons.

    Every method of `promotion.methods` is asked; the worst answer counts. Candidate, production and heuristic
    score the same rows: prediction time after both versions' trained_until, label known at as_of.
    The verdict says which version was in production: a promotion upon it is refused once that is another.
    Pending: a method has no answer yet, and none has failed; the comparison is to be asked again, later.

    A repeat of a comparison that was decided upon is held against what it was held against then.
    Raises RegistryError for an unknown version, TableError for a table that is not there, GateError for a method and
    TrainingError for a metric or heuristic of the project's own that fails, ServiceError where Spark or MLflow do not
    answer.
    """
    project = workspace.project(project_name)
    registered = RegisteredModel(workspace, project_name, model_name)
    registered.version(version)
    subject = f"{registered.name} version {version}"
    production = settled_production(workspace, project_name, model_name, as_of)
    recorded = recorded_reference(workspace, project_name, model_name, version, as_of)
    if recorded is not None:
        production = recorded.production
    elif production == version:
        there = f"{subject} is in production already"
        return Verdict(GATE, subject, (Check("already in production", Outcome.PASS, there, {REFERENCE: production}),))
    reference = Check(
        "reference", Outcome.PASS, f"{named(production)} was in production", {REFERENCE: production}
    )  # fmt: skip
    contest = Contest(workspace, project, model_name, version, production, as_of, max(as_of, workspace.moment()))
    try:
        answers = {name: method_of(project, name)(contest) for name in contest.model.promotion.methods}
    except ScoringError as error:
        failed = Check("candidate scores", Outcome.FAIL, f"version {version}: {error}")
        write_comparison(contest, dict.fromkeys(contest.model.promotion.methods, failed))
        return Verdict(GATE, subject, (reference, failed))
    rows = write_comparison(contest, answers)
    verdict = Verdict(GATE, subject, (reference, *_checks(answers)))
    waiting = {name: answer for name, answer in answers.items() if isinstance(answer, Pending)}
    return _together(waiting) if waiting and verdict.passed else keep_report(contest, verdict, rows)


def _checks(answers: "Mapping[str, Finding | Pending]") -> list[Check]:
    """Every method's checks; what two of them found alike (the number of rows) stands there once."""
    found: list[Check] = []
    for answer in answers.values():
        checks = answer.checks if isinstance(answer, Finding) else ()
        found += [check for check in checks if check not in found]
    return found


def _together(waiting: "Mapping[str, Pending]") -> Pending:
    """One answer for several that are pending: asked again when the first may be ready."""
    known = [answer.until for answer in waiting.values() if answer.until is not None]
    reasons = [f"{name}: {answer.reason}" for name, answer in waiting.items()]
    return Pending(
        "; ".join(reasons), max(known) if len(known) == len(waiting) else None,
        min(answer.ask_again_after for answer in waiting.values()),
    )  # fmt: skip
