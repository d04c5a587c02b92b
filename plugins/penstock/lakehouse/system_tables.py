"""The tables that Penstock keeps for every project, with fixed columns (docs/reference/tables.md)."""

from dataclasses import dataclass
from enum import StrEnum

from penstock.spec.project import ColumnType


class SystemTable(StrEnum):
    """The names of the tables."""

    QUARANTINE = "quarantine"
    BATCH_STATISTICS = "batch_statistics"
    MODEL_COMPARISONS = "model_comparisons"
    DEPLOYMENTS = "deployments"
    MONITORING_METRICS = "monitoring_metrics"
    ALERTS = "alerts"
    RETRAINING_DECISIONS = "retraining_decisions"
    TRAINING_SETS = "training_sets"
    MODEL_ORIGINS = "model_origins"
    WATERMARKS = "watermarks"


@dataclass(frozen=True)
class TableDefinition:
    """A table's columns, the keys that make a repeated write harmless, and its description.

    optional: the keys that may be null; null is a value like others there.
    """

    description: str
    keys: tuple[str, ...]
    columns: dict[str, ColumnType]
    optional: frozenset[str] = frozenset()


_T = ColumnType
_WHEN = {"as_of": _T.TIMESTAMP}

SYSTEM_TABLES: dict[SystemTable, TableDefinition] = {
    SystemTable.QUARANTINE: TableDefinition(
        "Rows kept apart because they failed an expectation, with every reason.",
        ("table", "keys", "row"),
        {
            "table": _T.STRING,
            "keys": _T.STRING,
            "row": _T.STRING,
            "reasons": _T.STRING,
            **_WHEN,
            "quarantined_at": _T.TIMESTAMP,
            "run": _T.STRING,
            "outcome": _T.STRING,
            "correction": _T.STRING,
            "released_at": _T.TIMESTAMP,
            "released_by": _T.STRING,
            "release_reason": _T.STRING,
            "readmitted_at": _T.TIMESTAMP,
        },
    ),
    SystemTable.BATCH_STATISTICS: TableDefinition(
        "Volume, freshness, null shares and ranges of each batch: the history that later batches are held against.",
        ("table", "as_of", "column"),
        {
            "table": _T.STRING,
            **_WHEN,
            "column": _T.STRING,
            "rows": _T.BIGINT,
            "rows_per_day": _T.DOUBLE,
            "lag_hours": _T.DOUBLE,
            "null_share": _T.DOUBLE,
            "minimum": _T.DOUBLE,
            "maximum": _T.DOUBLE,
            "mean": _T.DOUBLE,
            "outcome": _T.STRING,
            "measured_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.MODEL_COMPARISONS: TableDefinition(
        "A candidate against production and the heuristic on the same labelled rows: every metric, and the slices.",
        ("model", "candidate_version", "as_of", "method", "reference", "metric", "slice"),
        {
            "model": _T.STRING,
            "candidate_version": _T.INT,
            "production_version": _T.INT,
            "method": _T.STRING,
            "reference": _T.STRING,
            "metric": _T.STRING,
            "slice": _T.STRING,
            "candidate_value": _T.DOUBLE,
            "reference_value": _T.DOUBLE,
            "better_by": _T.DOUBLE,
            "lower": _T.DOUBLE,
            "upper": _T.DOUBLE,
            "alpha": _T.DOUBLE,
            "required_better_by": _T.DOUBLE,
            "rows": _T.BIGINT,
            "unit": _T.STRING,
            "units": _T.BIGINT,
            "repeats": _T.INT,
            "seed": _T.BIGINT,
            "inputs": _T.STRING,
            "window_start": _T.TIMESTAMP,
            "window_end": _T.TIMESTAMP,
            "verdict": _T.STRING,
            "reason": _T.STRING,
            **_WHEN,
            "compared_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.DEPLOYMENTS: TableDefinition(
        "The audit of stages: every transition with its evidence, who decided it and why; freezes and answers, too.",
        ("transition_id",),
        {
            "transition_id": _T.STRING,
            "kind": _T.STRING,
            "model": _T.STRING,
            "version": _T.INT,
            "from_stage": _T.STRING,
            "to_stage": _T.STRING,
            "state": _T.STRING,
            "decided_by": _T.STRING,
            "reason": _T.STRING,
            "evidence": _T.STRING,
            **_WHEN,
            "requested_at": _T.TIMESTAMP,
            "completed_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.MONITORING_METRICS: TableDefinition(
        "Volume, drift and quality of each window of predictions, beside baseline and threshold.",
        ("model", "model_version", "window_end", "kind", "column", "metric"),
        {
            "model": _T.STRING,
            "model_version": _T.INT,
            "window_start": _T.TIMESTAMP,
            "window_end": _T.TIMESTAMP,
            "kind": _T.STRING,
            "column": _T.STRING,
            "metric": _T.STRING,
            "value": _T.DOUBLE,
            "baseline": _T.DOUBLE,
            "threshold": _T.DOUBLE,
            "alert": _T.BOOLEAN,
            "rows": _T.BIGINT,
            "labelled_rows": _T.BIGINT,
            **_WHEN,
            "computed_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.ALERTS: TableDefinition(
        "Thresholds that were passed.",
        ("model", "model_version", "window_end", "kind", "column", "metric"),
        {
            "model": _T.STRING,
            "model_version": _T.INT,
            "window_start": _T.TIMESTAMP,
            "window_end": _T.TIMESTAMP,
            "kind": _T.STRING,
            "column": _T.STRING,
            "metric": _T.STRING,
            "value": _T.DOUBLE,
            "threshold": _T.DOUBLE,
            "message": _T.STRING,
            **_WHEN,
            "raised_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.RETRAINING_DECISIONS: TableDefinition(
        "Whether to retrain, with the reasons; no is recorded too.",
        ("model", "as_of"),
        {
            "model": _T.STRING,
            **_WHEN,
            "decision": _T.STRING,
            "reasons": _T.STRING,
            "evidence": _T.STRING,
            "production_version": _T.INT,
            "decided_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.TRAINING_SETS: TableDefinition(
        "Every training set: from which table versions, by which definition, with what content.",
        ("id",),
        {
            "id": _T.STRING,
            "model": _T.STRING,
            "table": _T.STRING,
            "version": _T.BIGINT,
            **_WHEN,
            "inputs": _T.STRING,
            "definition": _T.STRING,
            "rows": _T.BIGINT,
            "first_prediction_time": _T.TIMESTAMP,
            "last_prediction_time": _T.TIMESTAMP,
            "label_mean": _T.DOUBLE,
            "missing": _T.STRING,
            "warnings": _T.STRING,
            "hash": _T.STRING,
            "created_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
    SystemTable.MODEL_ORIGINS: TableDefinition(
        "Which model files this environment's training made, which of others' a person adopted, and which its "
        "compliance check judged.",
        ("model", "digest", "kind", "version"),
        {
            "model": _T.STRING,
            "digest": _T.STRING,
            "kind": _T.STRING,
            "run_id": _T.STRING,
            "code": _T.STRING,
            "reviewed_on": _T.STRING,
            "decided_by": _T.STRING,
            "reason": _T.STRING,
            "trusts_pickle": _T.BOOLEAN,
            "version": _T.INT,
            **_WHEN,
            "recorded_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
        optional=frozenset({"version"}),
    ),
    SystemTable.WATERMARKS: TableDefinition(
        "How far the landing of a source looked and found nothing after the source's newest commit.",
        ("table",),
        {
            "table": _T.STRING,
            **_WHEN,
            "after": _T.TIMESTAMP,
            "table_id": _T.STRING,
            "looked_at": _T.TIMESTAMP,
            "run": _T.STRING,
        },
    ),
}
