"""Airflow's four programs: API server, scheduler, DAG processor and triggerer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from penstock.home import Credentials
from penstock.stack.credentials import AIRFLOW_ROLES, Secrets
from penstock.stack.programs import Program, base_environment
from penstock.stack.settings import StackSettings

# The log servers would listen on every interface; the API server reads the logs from the disk.
_COMMANDS = {
    "airflow-api-server": ("api-server",),
    "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}

# So long SQLite's writers wait for each other; after the 5 s of its default a busy machine answers "Database error".
_PATIENCE_SECONDS = 60

# Imports only: a session, a fit or a gRPC channel here would hang the tasks, the scheduler's forks.
_PRELOAD = '''\
"""Imports what tasks use, once, in the scheduler: tasks are forks of it and find the modules there."""

import contextlib
import importlib
import warnings

for _name in (
    "pandas", "pyarrow", "pyspark.sql.connect.session", "grpc", "deltalake", "mlflow", "mlflow.pyfunc",
    "mlflow.lightgbm", "lightgbm", "sklearn.metrics", "sklearn.model_selection", "scipy.stats", "optuna",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "great_expectations", "great_expectations.execution_engine",
    "pyspark.sql.connect.functions", "pyspark.sql.connect.window", "sqlglot", "httpx", "pyarrow.dataset", "duckdb",
):
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(_name)
'''


def airflow_programs(settings: StackSettings, credentials: Credentials, secrets: Secrets) -> list[Program]:
    """Return Airflow's programs."""
    folder = settings.state / "airflow"
    environment = airflow_environment(settings, credentials, secrets)
    passwords = {credentials.airflow.username: credentials.airflow.password}
    passwords |= {login.username: login.password for login in credentials.airflow.others}
    # Not in <AIRFLOW_HOME>/config, which every component has on its path: only the scheduler forks tasks.
    preload = folder / "scheduler"
    scheduler = {**environment, "PYTHONPATH": os.pathsep.join([str(preload), environment["PYTHONPATH"]])}
    scheduler_files = {preload / "airflow_local_settings.py": _PRELOAD}
    executable = str(airflow_executable(settings))
    return [
        Program(
            name=name,
            command=(executable, *arguments),
            folder=folder,
            environment=scheduler if name == "airflow-scheduler" else environment,
            files={folder / "passwords.json": json.dumps(passwords)}
            | (scheduler_files if name == "airflow-scheduler" else {}),
        )
        for name, arguments in _COMMANDS.items()
    ]


def airflow_executable(settings: StackSettings) -> Path:
    """Return the `airflow` command of the environment that runs the stack."""
    return settings.python.parent / "airflow"


def airflow_database(settings: StackSettings) -> str:
    """Return the SQLAlchemy address of Airflow's database. May hold a password."""
    return settings.airflow_database or f"sqlite:///{settings.state}/airflow/airflow.db?timeout={_PATIENCE_SECONDS}"


def airflow_environment(settings: StackSettings, credentials: Credentials, secrets: Secrets) -> dict[str, str]:
    """Return the environment of Airflow's programs and of the `airflow` command."""
    options = _options(settings, secrets)
    return {
        **base_environment(settings),
        "AIRFLOW_HOME": str(settings.state / "airflow"),
        **{f"AIRFLOW__{section}__{key}".upper(): value for (section, key), value in options.items()},
        **_overrides(),
        **_connections(settings, credentials),
        # Tasks are forks of a scheduler that has imported gRPC but never opened a channel.
        "GRPC_ENABLE_FORK_SUPPORT": "false",
        "GRPC_VERBOSITY": "ERROR",
    }


def _overrides() -> dict[str, str]:
    """Return Airflow's options from PENSTOCK_AIRFLOW__SECTION__KEY.

    Plain AIRFLOW__SECTION__KEY does not count: a stack that is started from a task, or from the shell of
    another Airflow, must not end up on that one's database.
    """
    prefix = "PENSTOCK_AIRFLOW__"
    return {
        f"AIRFLOW__{name.removeprefix(prefix)}": value for name, value in os.environ.items() if name.startswith(prefix)
    }


def _options(settings: StackSettings, secrets: Secrets) -> Mapping[tuple[str, str], str]:
    folder = settings.state / "airflow"
    url = f"http://{settings.network.airflow}:{settings.ports.airflow}"
    return {
        ("core", "executor"): "LocalExecutor",
        ("core", "parallelism"): str(settings.airflow_parallelism),
        ("core", "dags_folder"): str(settings.root / "dags"),
        ("core", "plugins_folder"): str(settings.root / "plugins"),
        ("core", "load_examples"): "False",
        ("core", "dags_are_paused_at_creation"): str(settings.environment != "dev"),
        ("core", "fernet_key"): secrets.airflow_fernet_key,
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("core", "simple_auth_manager_users"): ",".join(f"{u}:{r}" for u, r in AIRFLOW_ROLES.items()),
        ("core", "simple_auth_manager_passwords_file"): str(folder / "passwords.json"),
        ("database", "sql_alchemy_conn"): airflow_database(settings),
        ("api", "host"): settings.network.listen,
        ("api", "port"): str(settings.ports.airflow),
        ("api", "base_url"): settings.network.airflow_url or url,
        ("api", "workers"): "1",
        ("api", "secret_key"): secrets.airflow_api_secret,
        ("api_auth", "jwt_secret"): secrets.airflow_jwt_secret,
        ("logging", "base_log_folder"): str(settings.logs / "airflow"),
        ("scheduler", "scheduler_idle_sleep_time"): "0.25",
        # A changed DAG or project file is seen within half a minute: project files are no DAG files, so only
        # min_file_process_interval notices them.
        ("dag_processor", "refresh_interval"): "5",
        ("dag_processor", "bundle_refresh_check_interval"): "2",
        ("dag_processor", "min_file_process_interval"): "30",
        ("dag_processor", "parsing_processes"): "1",
        ("dag_processor", "print_stats_interval"): "0",
        ("usage_data_collection", "enabled"): "False",
    }


def _connections(settings: StackSettings, credentials: Credentials) -> dict[str, str]:
    mlflow = {
        "conn_type": "http",
        "schema": "http",
        "host": settings.network.mlflow,
        "port": settings.ports.mlflow,
        "login": credentials.mlflow.username,
        "password": credentials.mlflow.password,
    }
    spark = {
        "conn_type": "spark_connect",
        "host": f"sc://{settings.network.spark}",
        "port": settings.ports.spark,
        "password": credentials.spark.token,
    }
    return {
        "AIRFLOW_CONN_PENSTOCK_MLFLOW": json.dumps(mlflow),
        "AIRFLOW_CONN_PENSTOCK_SPARK": json.dumps(spark),
    }
