"""Runs one program of the stack in a container: `python -m penstock.stack.containers PROGRAM`.

The programs are those of the local stack, options, preload and all; here they only find one another by the
names of docker-compose.yaml's services, keep their data on PostgreSQL and on volumes, and get their secrets
from environment variables. Beside the programs:

    databases        creates Airflow's and MLflow's roles and databases, where they are missing
    airflow-migrate  brings Airflow's database to the installed version
    mlflow-migrate   does the same for MLflow's, which the server does by itself for an empty one only
    webhook          tells MLflow where new versions are announced, and the secret to sign with
    health PROGRAM   exits with 1, and says why, when the program does not work
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock.errors import PenstockError
from penstock.home import (
    AirflowCredentials,
    Credentials,
    Login,
    MlflowCredentials,
    SparkCredentials,
    environment_name,
)
from penstock.registry.webhook import Change, Mlflow, ensure_webhook, webhook_name
from penstock.stack import health, postgres
from penstock.stack.airflow_programs import airflow_environment, airflow_executable, airflow_programs
from penstock.stack.credentials import AIRFLOW_ROLES, WEBHOOK_PATH, Secrets
from penstock.stack.errors import ServiceFailedError, StackError
from penstock.stack.files import write_private
from penstock.stack.jars import delta_folder, have_jars
from penstock.stack.java import find_java
from penstock.stack.mlflow_program import mlflow_program
from penstock.stack.programs import PROGRAMS, Program
from penstock.stack.settings import MlflowStores, Network, StackSettings, read_settings
from penstock.stack.spark_program import spark_program

SERVICES = Network(listen="0.0.0.0", spark="spark", mlflow="mlflow", airflow="airflow-apiserver")
"""The services of docker-compose.yaml; what they listen on is the containers' private network."""

_POSTGRES = "postgres"

# What only this module reads; a program is handed what it needs of it under the names that it knows.
_SECRETS = (
    "POSTGRES_PASSWORD",
    "PENSTOCK_AIRFLOW_DB_PASSWORD",
    "PENSTOCK_AIRFLOW_FERNET_KEY",
    "PENSTOCK_AIRFLOW_JWT_SECRET",
    "PENSTOCK_AIRFLOW_API_SECRET",
    *(f"PENSTOCK_AIRFLOW_{user}_PASSWORD".upper() for user in AIRFLOW_ROLES),
    "PENSTOCK_MLFLOW_DB_PASSWORD",
    "PENSTOCK_MLFLOW_FLASK_SECRET",
    "PENSTOCK_MLFLOW_WEBHOOK_KEY",
    "PENSTOCK_WEBHOOK_SECRET",
)

_CONSOLE_LOG = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1}: %m%n%ex
"""


def container_program(name: str) -> Program:
    """Return a program of the stack as its container runs it.

    Raises:
        StackError: a variable that it needs is missing; with the names of all that are.
    """
    builders: Mapping[str, Callable[[], Program]] = {"spark": _spark, "mlflow": _mlflow}
    if name not in PROGRAMS:
        raise StackError(f"no program {name!r}: choose from {', '.join(PROGRAMS)}")
    return builders[name]() if name in builders else _airflow(name)


def create_databases() -> list[str]:
    """Create the roles and databases that are missing; return what was created."""
    superuser, airflow, mlflow = _required(
        "POSTGRES_PASSWORD", "PENSTOCK_AIRFLOW_DB_PASSWORD", "PENSTOCK_MLFLOW_DB_PASSWORD"
    )
    owners = (
        postgres.Owner("airflow", airflow, ("airflow",)),
        postgres.Owner("mlflow", mlflow, ("mlflow", "mlflow_auth")),
    )
    return postgres.ensure_databases(_POSTGRES, "postgres", superuser, owners)


def set_webhook() -> Change:
    """Make the webhook in MLflow, or bring it up to date.

    Raises:
        ServiceError: MLflow does not answer.
    """
    secret, password = _required("PENSTOCK_WEBHOOK_SECRET", "MLFLOW_TRACKING_PASSWORD")
    mlflow = Mlflow(f"http://{SERVICES.mlflow}:5000", _mlflow_user(), password)
    url = f"http://{SERVICES.airflow}:8080{WEBHOOK_PATH}"
    return ensure_webhook(mlflow, webhook_name(environment_name()), url, secret.split(",")[0])


def check_health(name: str) -> None:
    """Return when the program works.

    Raises:
        ServiceFailedError: it does not.
    """
    airflow = AirflowCredentials(f"http://{SERVICES.airflow}:8080", "", "")
    checks: Mapping[str, Callable[[], str | None]] = {
        "spark": lambda: health.check_spark(SparkCredentials("sc://localhost:15002", "")),
        "mlflow": lambda: health.check_mlflow(
            MlflowCredentials("http://localhost:5000", _mlflow_user(), *_required("MLFLOW_TRACKING_PASSWORD"))
        ),
        "airflow-api-server": lambda: health.check_airflow(
            dataclasses.replace(airflow, url="http://localhost:8080"), components=()
        ),
        "airflow-scheduler": lambda: health.check_airflow(airflow, components=["scheduler"]),
        "airflow-dag-processor": lambda: health.check_airflow(airflow, components=["dag_processor"]),
        "airflow-triggerer": lambda: health.check_airflow(airflow, components=["triggerer"]),
    }
    problem = checks[name]()
    if problem:
        raise ServiceFailedError(f"{name}: {problem}")


def main(arguments: Sequence[str]) -> None:
    """Become the program that the command line names, or do the one-off work."""
    match arguments:
        case ["databases"]:
            print("created:", ", ".join(create_databases()) or "nothing", flush=True)
        case ["webhook"]:
            print("webhook:", set_webhook(), flush=True)
        case ["airflow-migrate"]:
            _migrate_airflow()
        case ["mlflow-migrate"]:
            _migrate_mlflow()
        case ["health", name] if name in PROGRAMS:
            check_health(name)
        case [name] if name in PROGRAMS:
            _become(container_program(name))
        case _:
            raise StackError(f"no such program: {' '.join(arguments)!r}\n{__doc__}")


def _spark() -> Program:
    settings = _settings()
    jars = Path(os.environ.get("PENSTOCK_JARS") or settings.jars)
    if not have_jars(jars):
        raise StackError(f"Delta Lake's jars are not in {jars}: build the image again")
    program = spark_program(settings, _credentials(), find_java(), delta_folder(jars))
    console = {path: _CONSOLE_LOG for path in program.files if path.name == "log4j2.properties"}
    return dataclasses.replace(program, files={**program.files, **console})


def _mlflow() -> Program:
    (password,) = _required("PENSTOCK_MLFLOW_DB_PASSWORD")
    stores = MlflowStores(
        database=postgres.address(_POSTGRES, "mlflow", password, "mlflow"),
        logins=postgres.address(_POSTGRES, "mlflow", password, "mlflow_auth"),
        artifacts=os.environ.get("PENSTOCK_MLFLOW_ARTIFACTS") or str(_settings().home / "mlflow-artifacts"),
    )
    flask, webhook = _required("PENSTOCK_MLFLOW_FLASK_SECRET", "PENSTOCK_MLFLOW_WEBHOOK_KEY")
    secrets = Secrets("", "", "", mlflow_flask_secret=flask, mlflow_webhook_key=webhook)
    return mlflow_program(dataclasses.replace(_settings(), mlflow_stores=stores), _credentials(), secrets)


def _airflow(name: str) -> Program:
    settings = _airflow_settings()
    serves = name == "airflow-api-server"
    users = _required(*(f"PENSTOCK_AIRFLOW_{user}_PASSWORD".upper() for user in AIRFLOW_ROLES)) if serves else ()
    credentials = _credentials(dict(zip(AIRFLOW_ROLES, users, strict=False)))
    programs = {program.name: program for program in airflow_programs(settings, credentials, _airflow_secrets())}
    program = programs[name]
    # Who logs in concerns the API server alone.
    files = {path: text for path, text in program.files.items() if serves or path.name != "passwords.json"}
    own = {**program.environment, **_logs(settings)}
    if serves:  # it alone takes MLflow's deliveries in
        (own["PENSTOCK_WEBHOOK_SECRET"],) = _required("PENSTOCK_WEBHOOK_SECRET")
    return dataclasses.replace(program, files=files, environment=own)


def _airflow_settings() -> StackSettings:
    (password,) = _required("PENSTOCK_AIRFLOW_DB_PASSWORD")
    database = postgres.address(_POSTGRES, "airflow", password, "airflow")
    return dataclasses.replace(_settings(), airflow_database=database)


def _airflow_secrets() -> Secrets:
    fernet, jwt, api = _required(
        "PENSTOCK_AIRFLOW_FERNET_KEY", "PENSTOCK_AIRFLOW_JWT_SECRET", "PENSTOCK_AIRFLOW_API_SECRET"
    )
    return Secrets(fernet, jwt, api, mlflow_flask_secret="", mlflow_webhook_key="")


def _logs(settings: StackSettings) -> dict[str, str]:
    """Return where task logs go: a volume, from which the API server shows what the scheduler's tasks wrote."""
    return {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs")}


def _settings() -> StackSettings:
    network = dataclasses.replace(
        SERVICES,
        airflow_url=os.environ.get("PENSTOCK_AIRFLOW_PAGES_URL") or None,
        mlflow_hosts=(
            f"{SERVICES.mlflow}:5000",
            *filter(None, os.environ.get("PENSTOCK_MLFLOW_HOSTS", "").split(",")),
        ),
    )
    return dataclasses.replace(read_settings(), network=network)


def _credentials(airflow_passwords: Mapping[str, str] | None = None) -> Credentials:
    (mlflow_password,) = _required("MLFLOW_TRACKING_PASSWORD")
    logins = [Login(user, password) for user, password in (airflow_passwords or {}).items()]
    admin = next((login for login in logins if login.username == "admin"), Login("admin", ""))
    return Credentials(
        airflow=AirflowCredentials(
            f"http://{SERVICES.airflow}:8080",
            admin.username,
            admin.password,
            tuple(login for login in logins if login is not admin),
        ),
        mlflow=MlflowCredentials(f"http://{SERVICES.mlflow}:5000", _mlflow_user(), mlflow_password),
        spark=SparkCredentials(f"sc://{SERVICES.spark}:15002", token=""),
    )


def _mlflow_user() -> str:
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or "admin"


def _required(*names: str) -> list[str]:
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise StackError(f"not set: {', '.join(missing)}; docker/make-env writes an environment file with all of them")
    return [os.environ[name] for name in names]


def program_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return a program's environment: its own over the container's; Airflow's options given to the container win."""
    given = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    return {**given, **own, **{name: value for name, value in given.items() if name.startswith("AIRFLOW_")}}


def _become(program: Program) -> None:
    program.folder.mkdir(parents=True, exist_ok=True)
    for path, content in program.files.items():
        write_private(path, content)
    os.chdir(program.folder)
    os.execve(program.command[0], program.command, program_environment(program.environment))


def _migrate_airflow() -> None:
    settings = _airflow_settings()
    environment = airflow_environment(settings, _credentials(), _airflow_secrets())
    command = [str(airflow_executable(settings)), "db", "migrate"]
    os.execve(command[0], command, program_environment({**environment, **_logs(settings)}))


def _migrate_mlflow() -> None:
    from mlflow.db import upgrade  # its command takes the address, and so the password, as an argument

    upgrade.main([_mlflow().environment["MLFLOW_BACKEND_STORE_URI"]], standalone_mode=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PenstockError as failure:
        sys.exit(f"error: {failure}")
