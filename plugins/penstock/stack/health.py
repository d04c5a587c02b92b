"""Asking each service whether it works: a real request with our own login."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Collection, Mapping

import httpx

from penstock.home import AirflowCredentials, Credentials, MlflowCredentials, SparkCredentials
from penstock.stack.programs import Service

_TIMEOUT_SECONDS = 5
_FRESH_SECONDS = 60


def check(service: Service, credentials: Credentials) -> str | None:
    """Return None when the service works, else why it does not."""
    checks: Mapping[Service, Callable[[], str | None]] = {
        Service.SPARK: lambda: check_spark(credentials.spark),
        Service.MLFLOW: lambda: check_mlflow(credentials.mlflow),
        Service.AIRFLOW: lambda: check_airflow(credentials.airflow),
    }
    return checks[service]()


def check_spark(credentials: SparkCredentials) -> str | None:
    """Ask the Connect server for its version, in a session of our own that is released again."""
    import grpc
    from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

    session = {
        "session_id": str(uuid.uuid4()),
        "user_context": base_pb2.UserContext(user_id="penstock-health"),
    }
    options = {"timeout": _TIMEOUT_SECONDS, "metadata": [("authorization", f"Bearer {credentials.token}")]}
    try:
        with grpc.insecure_channel(credentials.url.removeprefix("sc://")) as channel:
            stub = base_pb2_grpc.SparkConnectServiceStub(channel)
            question = base_pb2.AnalyzePlanRequest.SparkVersion()
            stub.AnalyzePlan(base_pb2.AnalyzePlanRequest(spark_version=question, **session), **options)
            stub.ReleaseSession(base_pb2.ReleaseSessionRequest(**session), **options)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return "refuses the token of credentials.json"
        return f"does not answer ({error.code().name})"
    return None


def check_mlflow(credentials: MlflowCredentials) -> str | None:
    """Ask MLflow for an experiment."""
    try:
        answer = httpx.get(
            f"{credentials.url}/api/2.0/mlflow/experiments/search",
            params={"max_results": 1},
            auth=(credentials.username, credentials.password),
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return "refuses the login of credentials.json: its auth.db was made with another one"
    return None if answer.is_success else f"HTTP {answer.status_code}"


def check_airflow(credentials: AirflowCredentials, components: Collection[str] | None = None) -> str | None:
    """Ask Airflow's API server for the heartbeats of its `components` (scheduler, …; all by default)."""
    try:
        answer = httpx.get(f"{credentials.url}/api/v2/monitor/health", timeout=_TIMEOUT_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    if not answer.is_success:
        return f"HTTP {answer.status_code}"
    seen = answer.json()
    asked = _HEARTBEATS if components is None else components
    silent = [name for name in asked if not _is_alive(name, seen.get(name) or {})]
    return f"no heartbeat yet of: {', '.join(silent)}" if silent else None


_HEARTBEATS = {
    "scheduler": "latest_scheduler_heartbeat",
    "dag_processor": "latest_dag_processor_heartbeat",
    "triggerer": "latest_triggerer_heartbeat",
}


def _is_alive(name: str, component: Mapping[str, str | None]) -> bool:
    heartbeat = component.get(_HEARTBEATS[name])
    if component.get("status") != "healthy" or not heartbeat:
        return False
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(heartbeat)
    return age.total_seconds() < _FRESH_SECONDS
