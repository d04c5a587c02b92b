"""The operator of reproduction."""

from datetime import datetime
from typing import Any

from airflow.sdk import Context

from penstock.errors import GateError
from penstock.operators.promotion import VersionOperator
from penstock.workspace import Workspace


class ReproduceModelOperator(VersionOperator):
    """Builds a registered version again and compares both; fails where they differ. XCom: the verdict."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.registry.reproduction.reproduce."""
        from penstock.registry.reproduction import reproduce

        verdict = reproduce(workspace, self.project, self.model, self.version(workspace, context))
        self.log.info("%s", verdict.to_markdown())
        if not verdict.passed:
            context["ti"].xcom_push(key="return_value", value=verdict.to_dict())
            raise GateError(f"{verdict.subject} does not come out the same: {verdict.reason}")
        return verdict.to_dict()
