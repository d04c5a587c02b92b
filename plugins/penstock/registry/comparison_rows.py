"""The table `model_comparisons`: a row for each metric of a comparison, and for each bound."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.gates import Outcome, Verdict
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import as_utc, read, write_system_rows
from penstock.lakehouse.system_tables import SystemTable
from penstock.registry.audit import AuditLog, State
from penstock.registry.stages import Stage
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Bound
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.registry.comparison import Contest

INFORMATIVE = "info"  # the verdict of a metric that does not decide


@dataclass(frozen=True)
class Reference:
    """What a candidate was held against; None for the heuristic."""

    production: int | None


def recorded_reference(
    workspace: Workspace, project: str, model: str, version: int, as_of: datetime
) -> Reference | None:
    """What a comparison at this as_of was held against, once a decision has followed from it; else None."""
    rows = AuditLog(workspace, project, model).read().rows
    decided = any(
        row.version == version and row.as_of == as_of and row.to_stage in (Stage.PRODUCTION, Stage.ARCHIVED)
        and row.group == row.transition_id and row.state in (State.PENDING, State.COMPLETED)
        for row in rows
    )  # fmt: skip
    path = workspace.addresses.find(f"{project}.{SystemTable.MODEL_COMPARISONS}")
    if not decided or path is None:
        return None
    found = read(path, filters=[("model", "=", model), ("candidate_version", "=", version)])
    found = found[(found.as_of == as_utc(as_of)) & (found.verdict != INFORMATIVE)].sort_values("compared_at")
    if found.empty:
        return None
    production = found.production_version.iloc[-1]
    return Reference(None if production != production or production is None else int(production))


def write_comparison(
    workspace: Workspace, project: LoadedProject, contest: "Contest", bounds: Mapping[str, Bound], verdict: Verdict,
    as_of: datetime,
) -> None:  # fmt: skip
    """Writes a comparison's rows, by their keys: a repeat changes only wall-clock columns."""
    rows = _metric_rows(contest, verdict)
    if contest.method == "heuristic":
        rows += _bound_rows(contest, bounds, verdict)
    common: dict[str, Any] = {
        "model": contest.model, "candidate_version": contest.candidate, "production_version": contest.production,
        "rows": contest.rows, "window_start": contest.window[0], "window_end": contest.window[1], "as_of": as_of,
        "compared_at": now(), "run": workspace.lineage.run,
    }  # fmt: skip
    write_system_rows(
        workspace.addresses.writable(f"{contest.project}.{SystemTable.MODEL_COMPARISONS}"),
        SystemTable.MODEL_COMPARISONS,
        [{**common, **row} for row in rows],
        record(as_of, folder=project.folder, run=workspace.lineage.run),
    )


def _metric_rows(contest: "Contest", verdict: Verdict) -> list[dict[str, Any]]:
    rows = []
    for metric in sorted(contest.lower_is_better):
        duel, decides = contest.duel(metric), metric == contest.metric
        rows.append({
            "method": contest.method, "metric": metric,
            "candidate_value": contest.candidate_metrics.values.get(metric),
            "reference_value": contest.reference_metrics.values.get(metric),
            "better_by": duel.better_by if duel else None,
            "required_better_by": contest.required if decides else None,
            "verdict": str(verdict.outcome) if decides else INFORMATIVE,
            "reason": verdict.reason if decides else None,
        })  # fmt: skip
    return rows


def _bound_rows(contest: "Contest", bounds: Mapping[str, Bound], verdict: Verdict) -> list[dict[str, Any]]:
    checks = {check.name: check for check in verdict.checks}
    rows = []
    for metric, bound in bounds.items():
        value, check = contest.candidate_metrics.values.get(metric), checks[f"bound on {metric}"]
        for method, limit, sign in (("bound_min", bound.min, 1), ("bound_max", bound.max, -1)):
            if limit is not None:
                margin = None if value is None else sign * (value - limit)
                holds = margin is not None and margin >= 0
                rows.append({
                    "method": method, "metric": metric, "candidate_value": value, "reference_value": limit,
                    "better_by": margin, "required_better_by": 0.0,
                    "verdict": str(Outcome.PASS if holds else Outcome.FAIL), "reason": check.detail,
                })  # fmt: skip
    return rows
