"""What monitoring measures, in the shape that travels between its steps and ends in tables."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a metric is about; the column `kind` of `monitoring_metrics` and `alerts`."""

    VOLUME = "volume"
    FRESHNESS = "freshness"
    MISSING = "missing"
    FEATURE_DRIFT = "feature_drift"
    PREDICTION_DRIFT = "prediction_drift"
    QUALITY = "quality"


HAND_BACK = "retraining"
"""The kind of the alert with which a retraining decision hands a problem back to people."""


@dataclass(frozen=True)
class MetricRow:
    """One figure of one window of one model version.

    `column` is empty where the figure is not about a column or table; `baseline` and `threshold` are None
    where there is none; `message` says what an alert means, and is empty without one.
    """

    model_version: int
    window_start: str
    window_end: str
    kind: str
    metric: str
    value: float | None
    column: str = ""
    baseline: float | None = None
    threshold: float | None = None
    alert: bool = False
    rows: int = 0
    labelled_rows: int | None = None
    message: str = ""


@dataclass(frozen=True)
class Distribution:
    """A column's shares in training and in the window, bin by bin: what a chart shows."""

    model_version: int
    column: str
    bins: list[str]
    expected: list[float]
    actual: list[float]


@dataclass(frozen=True)
class Measurement:
    """What one step measured: figures, shares for charts, and notes on what could not be judged.

    `scope` lists (window_end, kind) that were measured in full: figures and alerts of an earlier run of the
    same window that are not measured any more are removed when this is published.
    """

    scope: list[tuple[str, str]]
    rows: list[MetricRow]
    distributions: list[Distribution] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Measurement":
        """The reverse of dataclasses.asdict, also after a passage through JSON."""
        return cls(
            scope=[(str(end), str(kind)) for end, kind in value["scope"]],
            rows=[MetricRow(**row) for row in value["rows"]],
            distributions=[Distribution(**item) for item in value["distributions"]],
            notes=list(value["notes"]),
        )
