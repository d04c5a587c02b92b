"""The pipelines without Airflow: the same functions in the same order, in one process, for development.

`penstock run PIPELINE PROJECT[.MODEL] --as-of T` calls this. What has nothing to do says so and is passed over,
as in Airflow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.clock import to_text
from penstock.errors import GateError, NothingToDo, PenstockError, ServiceError, SpecError, TableError
from penstock.gates import Outcome, Verdict
from penstock.spec.environment import ApprovalMode
from penstock.spec.graph import feature_table_order
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.features.backfill import Backfilled, BackfillRequest
    from penstock.features.staging import StagedBatch

_Result = TypeVar("_Result")
Report = Callable[[str, str, float], None]


@dataclass
class Steps:
    """Runs steps one after the other, and reports each by name, outcome and seconds."""

    report: Report
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, function: Callable[[], _Result]) -> _Result | None:
        """The step's result; None where there was nothing to do."""
        begin = perf_counter()
        try:
            result = function()
            said = _summary(result)
        except NothingToDo as reason:
            result, said = None, f"nothing to do: {reason}"
        self.seconds[name] = perf_counter() - begin
        self.report(name, said, self.seconds[name])
        return result

    def must(self, name: str, function: Callable[[], _Result]) -> _Result:
        """The result of a step that others cannot do without."""
        result = self(name, function)
        if result is None:
            raise NothingToDo(f"{name} had nothing to do")
        return result


@dataclass(frozen=True)
class Request:
    """What to run: a project (and model) as of a moment; the version to promote; who approves and why; a backfill."""

    project: str
    model: str
    as_of: datetime
    model_version: int | None = None
    approved_by: str | None = None
    reason: str = "penstock run"
    backfill: "BackfillRequest | None" = None


def run_pipeline(workspace: Workspace, pipeline: str, request: Request, report: Report) -> dict[str, float]:
    """Runs one pipeline. Answers the seconds of each step.

    Raises SpecError for an unknown pipeline, project or model, and what the steps raise.
    """
    if pipeline not in PIPELINES:
        raise SpecError(f"unknown pipeline {pipeline!r}: there are {', '.join(PIPELINES)}")
    if pipeline in ("feature_refresh", "table_maintenance"):
        workspace.project(request.project)
    else:
        _model_of(workspace, request)
    steps = Steps(report)
    PIPELINES[pipeline](workspace, request, steps)
    return steps.seconds


def _model_of(workspace: Workspace, request: Request) -> None:
    """Raises SpecError where the request names no model, or one that is not there."""
    project = workspace.project(request.project)
    if not request.model:
        some = next(iter(project.spec.models), "its_model")
        raise SpecError(f"which model? Write PROJECT.MODEL, such as {project.name}.{some}")
    project.model(request.model)


def feature_refresh(workspace: Workspace, request: Request, step: Steps) -> None:
    """Lands sources, then stages, validates and merges each feature table."""
    from penstock.features.backfill import check_tables
    from penstock.features.landing import land_source
    from penstock.features.merge import merge_batch, validate_batch

    project, as_of = request.project, request.as_of
    spec = workspace.project(project).spec
    check_tables(workspace.project(project), request.backfill)
    failures: list[PenstockError] = []
    stopped: set[str] = set()
    for name, source in spec.sources.items():
        if source.land:
            _gated(
                step,
                f"land.{name}",
                partial(land_source, workspace, project, name, as_of),
                failures,
                name,
                stopped,
            )
    for name in feature_table_order(spec):
        waits = [table for table in spec.feature_tables[name].inputs if table in stopped]
        if waits:
            stopped.add(name)
            step.report(name, f"waits for {', '.join(waits)}", 0.0)
            continue
        if request.backfill is not None and name in request.backfill.tables:
            again = partial(_backfill, workspace, project, name, as_of, request.backfill)
            _gated(step, f"{name}.backfill", again, failures, name, stopped)
            if name in stopped:
                continue
        staged = _gated(
            step, f"{name}.stage", partial(_stage, workspace, project, name, as_of), failures, name, stopped
        )
        if staged is None:
            continue
        checked = _gated(step, f"{name}.validate", partial(validate_batch, workspace, staged), failures, name, stopped)
        if checked is not None:
            _gated(step, f"{name}.merge", partial(merge_batch, workspace, checked), failures, name, stopped)
    _serve_online(workspace, request, step, failures)
    if failures:
        raise _together(failures)


def _backfill(
    workspace: Workspace, project: str, table: str, as_of: datetime, request: "BackfillRequest"
) -> "Backfilled":  # fmt: skip
    from penstock.features.backfill import backfill_table
    from penstock.lineage.dependants import naming_dependants

    with naming_dependants(workspace):
        return backfill_table(workspace, project, table, as_of, request)


def _stage(workspace: Workspace, project: str, table: str, as_of: datetime) -> "StagedBatch":
    from penstock.features.refresh import stage_table
    from penstock.lineage.dependants import naming_dependants

    with naming_dependants(workspace):
        return stage_table(workspace, project, table, as_of)


def _together(failures: list[PenstockError]) -> PenstockError:
    """The failures of several tables as one; of the kind that they have in common."""
    if len(failures) == 1:
        return failures[0]
    said = "\n".join(map(str, failures))
    for kind in (ServiceError, TableError):
        if all(isinstance(error, kind) for error in failures):
            return kind(said)
    return GateError(said)


def _serve_online(workspace: Workspace, request: Request, step: Steps, failures: list[PenstockError]) -> None:
    """Publishes the newest values of online tables, and compares."""
    from penstock.online.compare import check_online
    from penstock.online.publish import publish_online

    tables = workspace.project(request.project).spec.feature_tables.values()
    if not any(table.online_settings for table in tables):
        return
    publish = partial(publish_online, workspace, request.project, request.as_of)
    if _gated(step, "publish_online", publish, failures, "publish_online", set()) is not None:
        compare = partial(check_online, workspace, request.project, request.as_of)
        _gated(step, "compare_online", compare, failures, "compare_online", set())


def _gated(
    step: Steps, label: str, function: Callable[[], _Result], failures: list[PenstockError], name: str,
    stopped: set[str],
) -> _Result | None:  # fmt: skip
    """A step that may fail: what does not depend on it goes on, as in Airflow."""
    try:
        return step(label, function)
    except PenstockError as error:
        failures.append(error)
        stopped.add(name)
        step.report(label, f"stopped: {error}", 0.0)
        return None


def training(workspace: Workspace, request: Request, step: Steps) -> int | None:
    """Builds the training set, trains, evaluates, explains, profiles, registers; then promotes."""
    version = train_and_register(workspace, request, step)
    model_promotion(workspace, _with_version(request, version), step)
    return version


def train_and_register(workspace: Workspace, request: Request, step: Steps) -> int:
    """Everything of training up to the registered version, which it answers."""
    from penstock.features.training_set import build_training_set
    from penstock.training.evaluate import evaluate_model
    from penstock.training.explain import explain_model
    from penstock.training.profile import profile_model
    from penstock.training.register import register_model
    from penstock.training.train import train_model

    about = (workspace, request.project, request.model)
    training_set = step.must("training_set", lambda: build_training_set(*about, request.as_of))
    trained = step.must("train", lambda: train_model(*about, training_set))
    step("evaluate", lambda: evaluate_model(*about, trained.run_id))
    step("explain", lambda: explain_model(*about, trained.run_id))
    step("profile", lambda: profile_model(*about, trained.run_id))
    return step.must("register", lambda: register_model(*about, trained.run_id)).version


def model_promotion(workspace: Workspace, request: Request, step: Steps) -> None:
    """Compliance check, comparison, approval, Production (or Archived)."""
    from penstock.registry.adoption import adoption_of
    from penstock.registry.approval import SHOWN, check_may_approve, shown
    from penstock.registry.comparison import compare_with_production
    from penstock.registry.compliance import check_compliance
    from penstock.registry.deciding import fingerprint
    from penstock.registry.deployments import repair
    from penstock.registry.methods import Pending
    from penstock.registry.promotion import AUTOMATIC, Decision, carry_out, stage_after_compliance
    from penstock.registry.queue import admit

    if request.model_version is None:
        raise SpecError("which version? Give --model-version")
    version, as_of = request.model_version, request.as_of
    about = (workspace, request.project, request.model)
    if request.approved_by is not None:
        check_may_approve(workspace, f"{request.project}.{request.model} version {version}", request.approved_by)
    step("repair", lambda: repair(*about, as_of))
    if step("admit", lambda: admit(*about, version, as_of)) is None:
        return
    compliance = step("compliance_check", lambda: check_compliance(*about, version, as_of))
    assert compliance is not None
    step.must("to_staging", lambda: stage_after_compliance(*about, version, compliance, as_of))
    if not compliance.passed:
        return
    rule = fingerprint(*about)  # before: a change during the comparison shows, too
    comparison = step("compare_with_production", lambda: compare_with_production(*about, version, as_of))
    assert comparison is not None
    if isinstance(comparison, Pending):
        raise GateError(f"version {version} is still compared: {comparison.sentence}. Run this again then")
    evidence = {
        "compliance": compliance.to_dict(), "comparison": comparison.to_dict(),
        SHOWN: replace(shown(*about, comparison.to_dict()), spec=rule).to_dict(),
    }  # fmt: skip
    if not comparison.passed:
        rejected = Decision(False, AUTOMATIC, comparison.reason)
        step("to_archived", lambda: carry_out(*about, version, rejected, evidence, as_of))
        return
    decided_by = request.approved_by
    if decided_by is None and workspace.environment.approval.mode is ApprovalMode.HUMAN:
        raise GateError(
            f"version {version} waits in Staging: {workspace.environment.name} wants a human's approval. "
            "Answer in Airflow, or give --approved-by NAME --reason WHY"
        )
    reason = request.reason
    if decided_by is None and (adopted := adoption_of(*about, version, as_of)):
        decided_by, reason = adopted.decided_by, f"adopted: {adopted.reason}"
    decision = Decision(True, decided_by or AUTOMATIC, reason)
    step("to_production", lambda: carry_out(*about, version, decision, evidence, as_of))


def batch_inference(workspace: Workspace, request: Request, step: Steps) -> None:
    """Scores what came since, and publishes it."""
    from penstock.inference.batch import score_batch
    from penstock.inference.sinks import publish

    about = (workspace, request.project, request.model)
    scored = step("score", lambda: score_batch(*about, request.as_of))
    if scored is not None:
        step("publish", lambda: publish(*about, scored))


def monitoring(workspace: Workspace, request: Request, step: Steps) -> None:
    """Measures the newest window and publishes the metrics; looks after a new production version."""
    from penstock.monitoring.follow_up import follow_up_promotion
    from penstock.monitoring.monitor import monitor

    step("monitor", lambda: monitor(workspace, request.project, request.model, request.as_of))
    if workspace.project(request.project).model(request.model).promotion.follow_up is not None:
        about = (workspace, request.project, request.model)
        step("follow_up", lambda: follow_up_promotion(*about, request.as_of))


def retraining(workspace: Workspace, request: Request, step: Steps) -> None:
    """Decides; trains and promotes where the decision says so."""
    from penstock.monitoring.retraining import decide_retraining

    decision = step("decide", lambda: decide_retraining(workspace, request.project, request.model, request.as_of))
    if decision is not None and decision.decision == "retrain":
        training(workspace, request, step)


def table_maintenance(workspace: Workspace, request: Request, step: Steps) -> None:
    """Joins small files of the project's tables and removes what nobody needs."""
    from penstock.maintenance import maintain_project

    step("maintain", lambda: maintain_project(workspace, request.project))


PIPELINES: dict[str, Callable[[Workspace, Request, Steps], Any]] = {
    "feature_refresh": feature_refresh,
    "training": training,
    "model_promotion": model_promotion,
    "batch_inference": batch_inference,
    "monitoring": monitoring,
    "retraining": retraining,
    "table_maintenance": table_maintenance,
}


def _with_version(request: Request, version: int) -> Request:
    return replace(request, model_version=version)


_SHOWN = (
    "table", "version", "rows", "pieces", "quarantined", "mode", "why", "decision", "reasons", "run_id", "stage",
)  # fmt: skip


def _summary(result: Any) -> str:
    """One line about a step's result."""
    if isinstance(result, Verdict):
        return f"{'passed' if result.outcome is not Outcome.FAIL else 'failed'}: {result.reason}"
    shown = {name: value for name in _SHOWN if (value := getattr(result, name, None)) is not None}
    text = ", ".join(f"{name} {value}" for name, value in shown.items())
    return text or (str(result)[:200] if result is not None else "done")


def describe(request: Request) -> str:
    """The request as one line."""
    what = f"{request.project}.{request.model}" if request.model else request.project
    return f"{what} as of {to_text(request.as_of)}"
