"""Operators of monitoring and retraining."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator, Context

from penstock.clock import to_text
from penstock.operators.base import emit
from penstock.operators.links import MonitoringLink
from penstock.operators.promotion import stop_here
from penstock.operators.training import ModelOperator
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.scope import Scope


class IngestLogsOperator(ModelOperator):
    """Finds the window of predictions since the last one. XCom: a reference to it."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.monitoring.windows.ingest_logs."""
        from penstock.monitoring.monitor import ingest_logs

        return ingest_logs(workspace, self.project, self.model, as_of)


class _WindowOperator(ModelOperator):
    """Measures something of a window."""

    template_fields: Sequence[str] = (*ModelOperator.template_fields, "window")

    def __init__(self, *, window: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window = window


class MeasureDriftOperator(_WindowOperator):
    """Distances of each feature and of the predictions from the training profile. XCom: figures."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.monitoring.drift_measurement.measure_drift."""
        from penstock.monitoring.monitor import WindowReference, measure_drift

        return measure_drift(workspace, WindowReference.from_dict(self.window))


class MeasureQualityOperator(_WindowOperator):
    """Metrics on the labels that have arrived, beside what was promised. XCom: figures."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.monitoring.quality.measure_quality."""
        from penstock.monitoring.monitor import WindowReference, measure_quality

        return measure_quality(workspace, WindowReference.from_dict(self.window))


class MeasureInfrastructureOperator(_WindowOperator):
    """Volume and freshness. XCom: figures."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.monitoring.infrastructure.measure_infrastructure."""
        from penstock.monitoring.monitor import WindowReference, measure_infrastructure

        return measure_infrastructure(workspace, WindowReference.from_dict(self.window))


class PublishMetricsOperator(_WindowOperator):
    """Writes metrics, alerts and the report, and tells whoever waits for them (an asset event)."""

    template_fields: Sequence[str] = (*_WindowOperator.template_fields, "measures")
    operator_extra_links = (MonitoringLink(),)

    def __init__(self, *, measures: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measures = measures

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.monitoring.publication.publish."""
        from penstock.monitoring.metric_rows import Measurement
        from penstock.monitoring.monitor import WindowReference, publish

        window = WindowReference.from_dict(self.window)
        report = publish(workspace, window, [Measurement.from_dict(item) for item in self.measures])
        MonitoringLink.store(context, self.project, self.model)
        for asset in self.outlets:
            emit(context, asset, as_of=window.as_of)
        return report


class DecideRetrainingOperator(ModelOperator):
    """Decides whether to train again. XCom: decision, reasons, as_of; anything but "retrain" ends the run here."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.monitoring.retraining.decide_retraining."""
        from penstock.monitoring.retraining import decide_retraining

        decision = decide_retraining(workspace, self.project, self.model, as_of)
        told = {"decision": str(decision.decision), "reasons": list(decision.reasons), "as_of": to_text(as_of)}
        for reason in decision.reasons:
            self.log.info("%s: %s", decision.decision, reason)
        if decision.decision != "retrain":
            stop_here(self, context, f"{decision.decision}: {'; '.join(decision.reasons)}", told)
        return told


def trigger_training(scope: "Scope", *, decision: str) -> BaseOperator:
    """Starts training as of the decision, once, and waits for its end without holding a worker."""
    as_of = f"{{{{ ti.xcom_pull(task_ids='{decision}')['as_of'] }}}}"
    return TriggerDagRunOperator(
        task_id="train_again",
        trigger_dag_id=scope.dag_id("training"),
        trigger_run_id=f"retrain__{scope.model}__{as_of}",
        logical_date=None,
        conf={"as_of": as_of, "reason": f"{{{{ ti.xcom_pull(task_ids='{decision}')['reasons'] | join('; ') }}}}"},
        wait_for_completion=True,
        deferrable=True,
        poke_interval=2,
        skip_when_already_exists=True,
        retries=0,  # a try again would find the run, skip, and hide that the training failed
    )
