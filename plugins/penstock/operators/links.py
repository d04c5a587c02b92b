"""Links from a task to what it made: its MLflow run, its table, its quality report.

Airflow shows a link that was stored as XCom: the task stores it itself, so that it is there while the task runs
and where it fails; when the task ends, Airflow asks `get_link` and stores the answer again.
"""

import os
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink, Context

PAGES = "/penstock"


def mlflow_pages(tracking_uri: str) -> str:
    """MLflow's address for browsers: between containers, tasks find it under another one than people do."""
    return (os.environ.get("PENSTOCK_MLFLOW_PAGES_URL") or tracking_uri).rstrip("/")


def page(*parts: str) -> str:
    """The address of a page of Penstock, on Airflow's own host: below the path of [api] base_url, if it has one."""
    below = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return "/".join([f"{below}{PAGES}", *(quote(part, safe="") for part in parts)])


def mlflow_version(tracking_uri: str, name: str, version: int) -> str:
    """The address of a registered version in MLflow's own pages."""
    return f"{mlflow_pages(tracking_uri)}/#/models/{quote(name)}/versions/{version}"


class _StoredLink(BaseOperatorLink):
    """A link that the task itself stores while it runs."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002
        """The address that the task stored; empty before it ran."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""

    @classmethod
    def push(cls, context: Context, address: str) -> None:
        """Stores the address under the key that Airflow reads."""
        context["ti"].xcom_push(key=f"_link_{cls.__name__}", value=address)


class ReportLink(_StoredLink):
    """The quality report of a table."""

    name = "Quality report"

    @classmethod
    def store(cls, context: Context, project: str, table: str) -> None:
        """Stores the address of the page with the table's newest report."""
        cls.push(context, page("reports", project, table))


class TableLink(_StoredLink):
    """A table: columns, versions, lineage."""

    name = "Table"

    @classmethod
    def store(cls, context: Context, address: str) -> None:
        """Stores the address of the table's page."""
        project, _, table = address.partition(".")
        cls.push(context, page("tables", project, table))


class MlflowRunLink(_StoredLink):
    """The MLflow run of a training."""

    name = "MLflow run"

    @classmethod
    def store(cls, context: Context, tracking_uri: str, experiment_id: str, run_id: str) -> None:
        """Stores the address of the run in MLflow's own pages."""
        run = f"experiments/{quote(experiment_id)}/runs/{quote(run_id)}"
        cls.push(context, f"{mlflow_pages(tracking_uri)}/#/{run}")


class ModelVersionLink(_StoredLink):
    """A registered version in MLflow's own pages."""

    name = "Model version"

    @classmethod
    def store(cls, context: Context, tracking_uri: str, name: str, version: int) -> None:
        """Stores the address of the version."""
        cls.push(context, mlflow_version(tracking_uri, name, version))


class ModelCardLink(_StoredLink):
    """The model card of a training run."""

    name = "Model card"

    @classmethod
    def store(cls, context: Context, project: str, model: str, run_id: str) -> None:
        """Stores the address of the page with the run's card."""
        cls.push(context, f"{page('cards', project, model)}?run={quote(run_id, safe='')}")


class MonitoringLink(_StoredLink):
    """The newest monitoring report of a model."""

    name = "Monitoring report"

    @classmethod
    def store(cls, context: Context, project: str, model: str) -> None:
        """Stores the address of the page with the model's newest report."""
        cls.push(context, page("monitoring", project, model))


ALL_LINKS = (ReportLink, TableLink, MlflowRunLink, ModelVersionLink, ModelCardLink, MonitoringLink)
