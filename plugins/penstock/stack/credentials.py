"""The local stack's generated logins and keys: made once, kept, readable by the owner only."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import secrets
from pathlib import Path
from typing import Any

from penstock.stack.errors import StackError
from penstock.stack.files import make_private_folder, write_private
from penstock.stack.settings import StackSettings

AIRFLOW_ROLES = {"admin": "admin", "engineer": "op", "scientist": "viewer"}
"""Airflow's users and the simple auth manager's role of each."""

WEBHOOK_PATH = "/penstock-webhooks/mlflow"
"""Where Airflow's API server takes MLflow's deliveries in."""


@dataclasses.dataclass(frozen=True)
class Secrets:
    """Keys that services use among themselves; no person needs them."""

    airflow_fernet_key: str = dataclasses.field(repr=False)
    airflow_jwt_secret: str = dataclasses.field(repr=False)
    airflow_api_secret: str = dataclasses.field(repr=False)
    mlflow_flask_secret: str = dataclasses.field(repr=False)
    mlflow_webhook_key: str = dataclasses.field(repr=False)


def ensure_credentials(settings: StackSettings) -> None:
    """Write credentials.json: logins that exist are kept, addresses follow the ports."""
    make_private_folder(settings.state)
    path = settings.state / "credentials.json"
    known: dict[str, Any] = _read(path) if path.exists() else {}
    airflow = known.get("airflow", {})
    passwords = {u["username"]: u["password"] for u in [*airflow.get("others", []), airflow] if u}
    others = [name for name in AIRFLOW_ROLES if name != "admin"]
    content = {
        "airflow": {
            "url": f"http://localhost:{settings.ports.airflow}",
            "username": "admin",
            "password": passwords.get("admin") or _password(),
            "others": [{"username": name, "password": passwords.get(name) or _password()} for name in others],
        },
        "mlflow": {
            "url": f"http://localhost:{settings.ports.mlflow}",
            "username": "admin",
            "password": known.get("mlflow", {}).get("password") or _password(),
        },
        "spark": {
            "url": f"sc://localhost:{settings.ports.spark}",
            "token": known.get("spark", {}).get("token") or secrets.token_hex(24),
        },
        "webhook": {
            **known.get("webhook", {"secret": _webhook_secret()}),
            "url": f"http://localhost:{settings.ports.airflow}{WEBHOOK_PATH}",
        },
    }
    if content != known:
        write_private(path, json.dumps(content, indent=2) + "\n")


def rotate_webhook_secret(settings: StackSettings) -> None:
    """Replace the webhook's secret in credentials.json. The former one counts for some minutes more."""
    path = settings.state / "credentials.json"
    content = _read(path)
    if "webhook" not in content:
        raise StackError(f"{path} has no webhook yet: run `penstock up`")
    content["webhook"] |= {
        "secret": _webhook_secret(),
        "previous_secret": content["webhook"]["secret"],
        "replaced_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_private(path, json.dumps(content, indent=2) + "\n")


def ensure_secrets(settings: StackSettings) -> Secrets:
    """Return the services' keys, made on the first call and kept in secrets.json."""
    path = settings.state / "secrets.json"
    known: dict[str, str] = _read(path) if path.exists() else {}
    keys = {
        "airflow_fernet_key": known.get("airflow_fernet_key") or _fernet_key(),
        "airflow_jwt_secret": known.get("airflow_jwt_secret") or secrets.token_urlsafe(64),
        "airflow_api_secret": known.get("airflow_api_secret") or secrets.token_urlsafe(32),
        "mlflow_flask_secret": known.get("mlflow_flask_secret") or secrets.token_urlsafe(32),
        "mlflow_webhook_key": known.get("mlflow_webhook_key") or _fernet_key(),
    }
    if keys != known:
        write_private(path, json.dumps(keys, indent=2) + "\n")
    return Secrets(**keys)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StackError(f"cannot read {path}: {error}; restore it, or remove the folder {path.parent}") from error


def _webhook_secret() -> str:
    return secrets.token_hex(32)


def _password() -> str:
    return secrets.token_urlsafe(18)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
