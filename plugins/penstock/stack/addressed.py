"""The services of an environment without a local stack (a container's, say): asked at the addresses that it names.

Airflow is none of them: an environment does not say where it is.
"""

from __future__ import annotations

import re

from penstock.home import MlflowCredentials, SparkCredentials
from penstock.stack import health
from penstock.stack.programs import Service
from penstock.stack.stack import ServiceState, ServiceStatus
from penstock.workspace import Connections

_PLAIN = re.compile(r"sc://(?P<host>[^/:;]+)(:\d+)?/?")


def addressed_services(connections: Connections) -> dict[Service, ServiceStatus]:
    """Spark and MLflow by one question to each."""
    mlflow = MlflowCredentials(
        connections.mlflow_uri, connections.mlflow_username or "", connections.mlflow_password or ""
    )
    return {
        Service.SPARK: _spark(connections),
        Service.MLFLOW: _status(connections.mlflow_uri, health.check_mlflow(mlflow)),
    }


def _spark(connections: Connections) -> ServiceStatus:
    address, token = connections.spark_url, connections.spark_token or ""
    plain = _PLAIN.fullmatch(address)
    if plain is None or (token and plain["host"] != "localhost"):
        return ServiceStatus(ServiceState.UNKNOWN, address.partition("/;")[0], "not asked: it wants TLS")
    return _status(address, health.check_spark(SparkCredentials(address.rstrip("/"), token)))


def _status(url: str, problem: str | None) -> ServiceStatus:
    return ServiceStatus(ServiceState.UP, url) if problem is None else ServiceStatus(ServiceState.DOWN, url, problem)
