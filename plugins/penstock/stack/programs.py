"""What a program of the stack is, and what all of them share."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from penstock.stack.settings import STACK_ID_VARIABLE, StackSettings


class Service(enum.StrEnum):
    """What a user starts and sees; one or more programs each."""

    SPARK = "spark"
    MLFLOW = "mlflow"
    AIRFLOW = "airflow"


PROGRAMS: Mapping[str, Service] = {
    "spark": Service.SPARK,
    "mlflow": Service.MLFLOW,
    "airflow-api-server": Service.AIRFLOW,
    "airflow-scheduler": Service.AIRFLOW,
    "airflow-dag-processor": Service.AIRFLOW,
    "airflow-triggerer": Service.AIRFLOW,
}
"""Every program's name, in the order of their start."""


def programs_of(services: Collection[Service]) -> list[str]:
    """Return the names of the services' programs."""
    return [name for name, service in PROGRAMS.items() if service in services]


@dataclasses.dataclass(frozen=True)
class Program:
    """One process that supervisor keeps running, and the files that it reads."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = dataclasses.field(repr=False)
    files: Mapping[Path, str] = dataclasses.field(default_factory=dict, repr=False)

    def description(self) -> str:
        """Return what penstock.stack.launch reads, as JSON. Holds secrets."""
        content = {
            "program": self.name,
            "command": self.command,
            "folder": str(self.folder),
            "environment": {**inherited_environment(), **self.environment},
            "fingerprint": self.fingerprint(),
        }
        return json.dumps(content, indent=1, sort_keys=True)

    def fingerprint(self) -> str:
        """Return what changes with this program's settings; what a shell passes on does not count."""
        settings = [self.command, sorted(self.environment.items()), sorted(map(str, self.files.items()))]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


# What a program takes over from the user's shell: a cloud's credentials, proxies, certificates.
_PASSED_PREFIXES = (
    "AWS_", "AZURE_", "GOOGLE_", "GCP_", "PENSTOCK_", "LC_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "NO_",
)  # fmt: skip
_PASSED = {
    "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "CURL_CA_BUNDLE", "PATH",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "ALL_PROXY",
}  # fmt: skip


def inherited_environment() -> dict[str, str]:
    """Return what programs take over from the environment of `penstock up`."""
    return {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}


def base_environment(settings: StackSettings) -> dict[str, str]:
    """Return what every program has in its environment beside what it inherits."""
    return {
        STACK_ID_VARIABLE: settings.stack_id,
        "PENSTOCK_HOME": str(settings.home),
        "PENSTOCK_ENV": settings.environment,
        "PENSTOCK_ROOT": str(settings.root),
        "PENSTOCK_AIRFLOW_PORT": str(settings.ports.airflow),
        "PENSTOCK_MLFLOW_PORT": str(settings.ports.mlflow),
        "PENSTOCK_SPARK_PORT": str(settings.ports.spark),
        "PENSTOCK_SERVING_PORT": str(settings.ports.serving),
        "PYTHONPATH": os.pathsep.join([str(settings.root), str(settings.root / "plugins")]),
        "PYTHONUNBUFFERED": "1",
        # setproctitle, which Airflow calls, would overwrite /proc/PID/environ, and our mark with it.
        "SPT_NOENV": "1",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "2",
        # Threads that spin while they wait made a fit on busy cores take 33 s instead of 2 s.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
        "MPLBACKEND": "Agg",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
    }
