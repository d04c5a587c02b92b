"""Setting MLflow's webhook for a stack: `penstock up` does it, and one container of docker-compose.yaml."""

from __future__ import annotations

from penstock.home import Credentials
from penstock.registry.webhook import Change, Mlflow, ensure_webhook, webhook_name
from penstock.stack.errors import StackError


def set_webhook(environment: str, credentials: Credentials) -> Change:
    """See to it that this stack's MLflow tells its Airflow of new versions.

    Raises:
        ServiceError: MLflow does not answer.
    """
    webhook, login = credentials.webhook, credentials.mlflow
    if webhook is None:
        raise StackError("there is no webhook in credentials.json: run `penstock up`")
    mlflow = Mlflow(login.url, login.username, login.password)
    return ensure_webhook(mlflow, webhook_name(environment), webhook.url, webhook.secret)
