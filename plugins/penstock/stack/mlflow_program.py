"""The MLflow tracking server and model registry."""

from __future__ import annotations

from penstock.home import Credentials
from penstock.stack.credentials import Secrets
from penstock.stack.programs import Program, base_environment
from penstock.stack.settings import StackSettings

_AUTHENTICATION = """\
[mlflow]
default_permission = READ
database_uri = {logins}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# One worker: nothing can be stale, and a password's costly check happens once a minute, not every request.
auth_cache_ttl_seconds = 60
"""


def mlflow_program(settings: StackSettings, credentials: Credentials, secrets: Secrets) -> Program:
    """Return the MLflow server."""
    folder = settings.state / "mlflow"
    port = settings.ports.mlflow
    stores = settings.mlflow_stores
    # A server's address holds a password, which would be seen on the command line.
    database = () if stores else ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db")
    logins = stores.logins if stores else f"sqlite:///{folder}/auth.db"
    hosts = (f"localhost:{port}", f"127.0.0.1:{port}", *settings.network.mlflow_hosts)
    command = (
        str(settings.python.parent / "mlflow"),
        "server",
        "--host", settings.network.listen,
        "--port", str(port),
        "--workers", "1",
        "--app-name", "basic-auth",
        *database,
        "--artifacts-destination", stores.artifacts if stores else str(folder / "artifacts"),
        "--serve-artifacts",
        "--allowed-hosts", ",".join(hosts),
    )  # fmt: skip
    environment = {
        **base_environment(settings),
        **({"MLFLOW_BACKEND_STORE_URI": stores.database} if stores else {}),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": credentials.mlflow.username,
        "MLFLOW_AUTH_ADMIN_PASSWORD": credentials.mlflow.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.mlflow_flask_secret,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Webhooks to the local Airflow.
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": secrets.mlflow_webhook_key,
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        # A webhook that was set or got a new secret counts after five seconds, not after a minute.
        "MLFLOW_WEBHOOK_CACHE_TTL": "5",
        "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "10",
    }
    authentication = _AUTHENTICATION.format(logins=logins.replace("%", "%%"))  # an .ini file's own escape
    return Program("mlflow", command, folder, environment, {folder / "auth.ini": authentication})
