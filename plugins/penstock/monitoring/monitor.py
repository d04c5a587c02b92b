"""Monitoring as one function, and its steps, each of which can be a task of its own.

    reference = ingest_logs(workspace, project, model, as_of)
    measurements = [measure_drift(workspace, reference), measure_quality(workspace, reference),
                    measure_infrastructure(workspace, reference)]
    report = publish(workspace, reference, measurements)

What travels between them are references and figures (WindowReference.from_dict and Measurement.from_dict
read them back from JSON); predictions stay in their table.
"""

from datetime import datetime

from penstock.monitoring.drift_measurement import measure_drift
from penstock.monitoring.infrastructure import measure_infrastructure
from penstock.monitoring.publication import MonitoringReport, publish
from penstock.monitoring.quality import measure_quality
from penstock.monitoring.windows import WindowReference, ingest_logs
from penstock.workspace import Workspace

__all__ = [
    "MonitoringReport",
    "WindowReference",
    "ingest_logs",
    "measure_drift",
    "measure_infrastructure",
    "measure_quality",
    "monitor",
    "publish",
]


def monitor(workspace: Workspace, project: str, model: str, as_of: datetime) -> MonitoringReport:
    """Monitors the predictions since the last window, up to as_of, and publishes figures, alerts and a report.

    Raises NothingToDo where there is nothing new, or monitoring has passed as_of; TableError where a
    version that predicted has no training profile.
    """
    reference = ingest_logs(workspace, project, model, as_of)
    measurements = [
        measure_drift(workspace, reference),
        measure_quality(workspace, reference),
        measure_infrastructure(workspace, reference),
    ]
    return publish(workspace, reference, measurements)
