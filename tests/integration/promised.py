"""Monitored windows as monitoring publishes them, for tests of what follows from them."""

from datetime import datetime, timedelta

from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import write_system_rows
from penstock.lakehouse.system_tables import SystemTable
from penstock.monitoring.metric_rows import Kind
from penstock.monitoring.windows import LABEL_COVERAGE
from penstock.workspace import Workspace


def publish_window(
    workspace: Workspace, project: str, model: str, version: int, end: datetime, *, metric: str, value: float,
    bound: float | None, labelled: int, rows: int = 400,
) -> None:  # fmt: skip
    """Writes a day's window: how many labels it has, and a metric (less is better) against its bound (None: nothing was
    promised of it).
    """
    enough = labelled >= 200
    about = {
        "model": model, "model_version": version, "window_start": end - timedelta(days=1), "window_end": end,
        "kind": str(Kind.QUALITY), "column": "", "rows": rows, "labelled_rows": labelled, "as_of": end,
        "computed_at": end, "run": "a test",
    }  # fmt: skip
    coverage = {**about, "metric": LABEL_COVERAGE, "value": labelled / rows, "alert": False}
    figure = {
        **about, "metric": metric, "value": value, "baseline": None if bound is None else bound - 0.1,
        "threshold": bound, "alert": bound is not None and enough and value > bound,
    }  # fmt: skip
    path = workspace.addresses.writable(f"{project}.{SystemTable.MONITORING_METRICS}")
    write_system_rows(path, SystemTable.MONITORING_METRICS, [coverage, figure], record(end))
