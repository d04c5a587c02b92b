"""The table `model_comparisons`: a row for each metric, slice and bound of a comparison."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.gates import Check
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import as_utc, read, write_system_rows
from penstock.lakehouse.system_tables import SystemTable
from penstock.registry.audit import AuditLog, State
from penstock.registry.history import since_rolled_back
from penstock.registry.methods import ALL_ROWS, INFORMATIVE, Finding, Pending
from penstock.registry.stages import Stage
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.registry.contest import Contest

PENDING = "pending"  # the verdict of a method that has no answer yet


@dataclass(frozen=True)
class Reference:
    """What a candidate was held against; None for the heuristic."""

    production: int | None


def recorded_reference(
    workspace: Workspace, project: str, model: str, version: int, as_of: datetime
) -> Reference | None:
    """What a comparison at this as_of was held against, once a decision has followed from it; else None.

    A decision before a rollback of the version no longer counts: it is compared anew.
    """
    asked = AuditLog(workspace, project, model).read().rows
    _, rows = since_rolled_back([row for row in asked if row.state in (State.PENDING, State.COMPLETED)], version)
    decided = any(
        row.version == version and row.as_of == as_of and row.to_stage in (Stage.PRODUCTION, Stage.ARCHIVED)
        and row.group == row.transition_id
        for row in rows
    )  # fmt: skip
    path = workspace.addresses.find(f"{project}.{SystemTable.MODEL_COMPARISONS}")
    if not decided or path is None:
        return None
    found = read(path, filters=[("model", "=", model), ("candidate_version", "=", version)])
    found = found[(found.as_of == as_utc(as_of)) & ~found.verdict.isin([INFORMATIVE, PENDING])].sort_values(
        "compared_at"
    )
    if found.empty:
        return None
    production = found.production_version.iloc[-1]
    return Reference(None if production != production or production is None else int(production))


def compared_metrics(workspace: Workspace, project: str, model: str, version: int, as_of: datetime) -> dict[str, float]:
    """A candidate's metrics on all rows of its newest comparison up to as_of; empty where it was not compared."""
    path = workspace.addresses.find(f"{project}.{SystemTable.MODEL_COMPARISONS}")
    if path is None:
        return {}
    found = read(path, filters=[("model", "=", model), ("candidate_version", "=", version), ("slice", "=", ALL_ROWS)])
    found = found[found.candidate_value.notna() & (found.as_of <= as_utc(as_of))]
    newest = found[found.as_of == found.as_of.max()]
    return {str(row.metric): float(row.candidate_value) for row in newest.itertuples()}


def write_comparison(contest: "Contest", answers: "Mapping[str, Finding | Pending | Check]") -> list[dict[str, Any]]:
    """Writes a comparison's rows, by their keys: a repeat changes only wall-clock columns. Answers the rows.

    answers: by method; a check where the candidate could not be asked.
    """
    rows = [row for method, answer in answers.items() for row in _rows(contest, method, answer)]
    common: dict[str, Any] = {
        "model": contest.model_name, "candidate_version": contest.candidate, "production_version": contest.production,
        "seed": contest.model.promotion.seed, "alpha": contest.model.promotion.alpha,
        "window_end": contest.as_of, "as_of": contest.as_of, "compared_at": now(), "run": contest.workspace.lineage.run,
    }  # fmt: skip
    whole = [{**common, **row} for row in rows]
    write_system_rows(
        contest.workspace.addresses.writable(f"{contest.project.name}.{SystemTable.MODEL_COMPARISONS}"),
        SystemTable.MODEL_COMPARISONS,
        whole,
        record(contest.as_of, folder=contest.project.folder, run=contest.workspace.lineage.run),
    )
    return whole


def _rows(contest: "Contest", method: str, answer: "Finding | Pending | Check") -> Iterator[dict[str, Any]]:
    if not isinstance(answer, Finding):
        verdict, reason = (
            (PENDING, answer.sentence) if isinstance(answer, Pending) else (str(answer.outcome), answer.detail)
        )
        by_heuristic = method == "heuristic" or contest.production is None
        yield {
            "method": method, "reference": "heuristic" if by_heuristic else "production",
            "metric": contest.model.promotion.metric, "slice": ALL_ROWS, "verdict": verdict, "reason": reason,
        }  # fmt: skip
        return
    for row in answer.measured:
        found = row.difference
        lower, upper = found.interval(contest.model.promotion.alpha) if found.is_known else (None, None)
        yield {
            "method": method, "reference": row.reference, "metric": found.metric, "slice": row.slice,
            "candidate_value": found.candidate, "reference_value": found.reference, "better_by": found.better_by,
            "lower": lower, "upper": upper, "required_better_by": row.required, "rows": row.rows, "unit": row.unit,
            "units": row.units, "repeats": found.repeats, "verdict": row.verdict, "reason": row.reason,
            "window_start": contest.rows.after, "inputs": json.dumps(contest.rows.inputs, sort_keys=True),
        }  # fmt: skip
