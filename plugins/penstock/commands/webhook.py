"""`penstock webhook`: MLflow's webhook, which starts promotions in Airflow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from penstock.registry.webhook import Mlflow
    from penstock.workspace import Workspace

_output = Console(highlight=False, soft_wrap=True)


def set_(
    url: Annotated[
        str | None,
        typer.Option(help="The receiver: …/penstock-webhooks/mlflow of Airflow; the local stack's by default."),
    ] = None,
) -> None:
    """Make or update the webhook in this environment's MLflow.

    With --url, the secret is the first of PENSTOCK_WEBHOOK_SECRET, which Airflow's API server must have too.
    """
    from penstock.errors import SpecError
    from penstock.home import read_credentials
    from penstock.registry.webhook import ensure_webhook, webhook_name
    from penstock.stack.webhook import set_webhook
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    name = webhook_name(workspace.environment.name)
    if url is None:
        change = set_webhook(workspace.environment.name, read_credentials(workspace.environment.name))
    else:
        secret = os.environ.get("PENSTOCK_WEBHOOK_SECRET", "").split(",")[0]
        if not secret:
            raise SpecError("PENSTOCK_WEBHOOK_SECRET is not set: give the secret that Airflow's API server has")
        change = ensure_webhook(_mlflow(workspace), name, url, secret)
    _output.print(f"webhook {name}: {change}")


def rotate() -> None:
    """Give the local stack's webhook a new secret; nothing needs a restart, and no delivery is lost."""
    from penstock.home import environment_name, read_credentials
    from penstock.stack.credentials import rotate_webhook_secret
    from penstock.stack.settings import read_settings
    from penstock.stack.webhook import set_webhook

    rotate_webhook_secret(read_settings())
    name = environment_name()
    _output.print(f"new secret; webhook {set_webhook(name, read_credentials(name))}")


def test() -> None:
    """Let MLflow send an example, and print what the receiver answered (202: it names a model that is not there)."""
    from penstock.registry.webhook import test_webhook, webhook_name
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    found = test_webhook(_mlflow(workspace), webhook_name(workspace.environment.name))
    _output.print(found.detail, markup=False)
    if not found.delivered:
        raise typer.Exit(1)


def _mlflow(workspace: Workspace) -> Mlflow:
    from penstock.registry.webhook import Mlflow

    found = workspace.resolved
    return Mlflow(found.registry_uri or found.mlflow_uri, found.mlflow_username, found.mlflow_password)
