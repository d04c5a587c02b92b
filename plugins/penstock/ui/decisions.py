"""What Penstock recorded about a model: transitions, comparisons, retraining decisions, monitoring, alerts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from penstock.clock import to_text
from penstock.lakehouse.system_tables import SystemTable
from penstock.registry.forest import draw_forest
from penstock.registry.holds import Holds, holds
from penstock.registry.methods import ALL_ROWS, INFORMATIVE
from penstock.ui.faults import reading
from penstock.workspace import Workspace

Row = dict[str, Any]
MOST_ROWS = 100
_WORST_FIRST = ("fail", "pending", "warn", "pass")


@dataclass(frozen=True)
class Window:
    """The newest monitored window: its bounds, and its alerts."""

    start: str
    end: str
    rows: int
    labelled_rows: int
    alerts: tuple[Row, ...]


@dataclass(frozen=True)
class Decision:
    """Whether to retrain, as of a moment."""

    as_of: str
    decision: str
    reasons: tuple[str, ...]
    run: str


@dataclass(frozen=True)
class Transition:
    """A version's move from stage to stage; `checks` are those of the gate that led to it."""

    as_of: str
    version: int
    from_stage: str
    to_stage: str
    state: str
    decided_by: str
    reason: str
    requested_at: str
    run: str
    checks: tuple[Row, ...]


@dataclass(frozen=True)
class Noted:
    """A decision that moved no version by itself: a freeze, an answer, what a window says of a promise."""

    as_of: str
    kind: str
    version: int | None
    decided_by: str
    reason: str
    recorded_at: str
    run: str


@dataclass(frozen=True)
class Comparison:
    """A candidate against production (None: the heuristic alone): what decided, what informs, slices, the picture.

    picture: SVG with every text escaped; empty where nothing has an interval.
    """

    as_of: str
    candidate: int
    production: int | None
    rows: int
    window: tuple[str, str]
    verdict: str
    deciding: tuple[Row, ...]
    informative: tuple[Row, ...]
    slices: tuple[Row, ...]
    picture: Markup
    run: str


def last_window(workspace: Workspace, project: str, model: str) -> Window | None:
    """The newest monitored window; None before the first. Raises Unreadable."""
    metrics = _rows(workspace, project, SystemTable.MONITORING_METRICS, model)
    if not metrics:
        return None
    end = max(row["window_end"] for row in metrics)
    newest = [row for row in metrics if row["window_end"] == end]
    alerts = [row for row in _rows(workspace, project, SystemTable.ALERTS, model) if row["window_end"] == end]
    alerts.sort(key=lambda row: (row["kind"] == "feature_drift", row["kind"], row["column"] or ""))
    return Window(
        start=to_text(min(row["window_start"] for row in newest)), end=to_text(end),
        rows=max(row["rows"] or 0 for row in newest), labelled_rows=max(row["labelled_rows"] or 0 for row in newest),
        alerts=tuple(alerts),
    )  # fmt: skip


def retraining_decisions(workspace: Workspace, project: str, model: str) -> list[Decision]:
    """Every decision, newest first. Raises Unreadable."""
    rows = _rows(workspace, project, SystemTable.RETRAINING_DECISIONS, model)
    rows.sort(key=lambda row: row["as_of"], reverse=True)
    return [
        Decision(to_text(row["as_of"]), row["decision"], _reasons(row["reasons"]), row["run"] or "")
        for row in rows[:MOST_ROWS]
    ]


def transitions(workspace: Workspace, project: str, model: str) -> list[Transition]:
    """The audit of stages, newest first. Raises Unreadable."""
    rows = [row for row in _rows(workspace, project, SystemTable.DEPLOYMENTS, model) if row["to_stage"]]
    rows.sort(key=lambda row: row["requested_at"], reverse=True)
    return [
        Transition(
            as_of=to_text(row["as_of"]), version=row["version"], from_stage=row["from_stage"],
            to_stage=row["to_stage"], state=row["state"], decided_by=row["decided_by"], reason=row["reason"] or "",
            requested_at=to_text(row["requested_at"].replace(microsecond=0)), run=row["run"] or "",
            checks=tuple(_checks(row["evidence"])),
        )
        for row in rows[:MOST_ROWS]
    ]  # fmt: skip


def notes(workspace: Workspace, project: str, model: str) -> list[Noted]:
    """Freezes, answers to requests, follow-ups, newest first. Raises Unreadable."""
    rows = [row for row in _rows(workspace, project, SystemTable.DEPLOYMENTS, model) if not row["to_stage"]]
    rows.sort(key=lambda row: row["requested_at"], reverse=True)
    return [
        Noted(
            as_of=to_text(row["as_of"]), kind=row["kind"], version=row["version"], decided_by=row["decided_by"],
            reason=row["reason"] or "", recorded_at=to_text(row["requested_at"].replace(microsecond=0)),
            run=row["run"] or "",
        )
        for row in rows[:MOST_ROWS]
    ]  # fmt: skip


def model_holds(workspace: Workspace, project: str, model: str) -> Holds:
    """A model's freeze, and its versions that were rolled back. Raises Unreadable."""
    with reading(f"{project}.{SystemTable.DEPLOYMENTS}"):
        return holds(workspace, project, model)


def comparisons(workspace: Workspace, project: str, model: str) -> list[Comparison]:
    """Every comparison, newest first. Raises Unreadable."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in _rows(workspace, project, SystemTable.MODEL_COMPARISONS, model):
        groups.setdefault((row["as_of"], row["candidate_version"], row["compared_at"]), []).append(row)
    newest = sorted(groups.items(), key=lambda item: item[0], reverse=True)
    return [_comparison(rows) for _, rows in newest[:MOST_ROWS]]


def _comparison(rows: Sequence[Row]) -> Comparison:
    rows = [{**row, "slice": row["slice"] or ALL_ROWS, "reference": row["reference"] or row["method"]} for row in rows]
    whole, slices = [row for row in rows if row["slice"] == ALL_ROWS], [row for row in rows if row["slice"] != ALL_ROWS]
    deciding = [row for row in whole if row["verdict"] != INFORMATIVE]
    largest = max(whole, key=lambda row: row["rows"] or 0)
    outcomes = {row["verdict"] for row in [*deciding, *slices]} - {INFORMATIVE}
    return Comparison(
        as_of=to_text(largest["as_of"]), candidate=largest["candidate_version"],
        production=largest["production_version"], rows=largest["rows"] or 0,
        window=(_moment(largest["window_start"]), _moment(largest["window_end"])),
        verdict=next((outcome for outcome in (*_WORST_FIRST, *sorted(outcomes)) if outcome in outcomes), "pass"),
        deciding=tuple(deciding), informative=tuple(row for row in whole if row["verdict"] == INFORMATIVE),
        slices=tuple(slices), picture=Markup(draw_forest(rows)), run=largest["run"] or "",
    )  # fmt: skip


def _moment(value: Any) -> str:
    return to_text(value) if value is not None else ""


def _reasons(text: str | None) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return (str(text),)
    return tuple(str(item) for item in found) if isinstance(found, list) else (str(found),)


def _checks(evidence: str | None) -> list[Row]:
    """The checks in a transition's evidence: at its top, or one level down under the gate's name."""
    try:
        found = json.loads(evidence or "{}")
    except ValueError:
        return []
    if not isinstance(found, dict):
        return []
    places = [found, *(value for value in found.values() if isinstance(value, dict))]
    checks: list[Any] = next((place["checks"] for place in places if isinstance(place.get("checks"), list)), [])
    return [check for check in checks if isinstance(check, dict) and "outcome" in check]


def _rows(workspace: Workspace, project: str, table: SystemTable, model: str) -> list[Row]:
    from penstock.lakehouse.small_tables import read_arrow

    with reading(f"{project}.{table}"):
        path = workspace.addresses.find(f"{project}.{table}")
        found: list[Row] = read_arrow(path, filters=[("model", "=", model)]).to_pylist() if path else []
        return found
