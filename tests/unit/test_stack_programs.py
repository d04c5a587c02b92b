"""What the stack starts, and that no secret is seen in it."""

import configparser
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.home import read_credentials, root
from penstock.stack.airflow_programs import airflow_programs
from penstock.stack.credentials import ensure_credentials, ensure_secrets
from penstock.stack.java import Java
from penstock.stack.mlflow_program import mlflow_program
from penstock.stack.programs import PROGRAMS
from penstock.stack.settings import read_settings
from penstock.stack.spark_program import spark_program
from penstock.stack.supervisor import Supervisor


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "50% state"))
    settings = read_settings()
    ensure_credentials(settings)
    return settings


@pytest.fixture
def programs(settings):
    credentials, secrets = read_credentials(), ensure_secrets(settings)
    return [
        spark_program(settings, credentials, Java(Path("/usr/bin/java"), 17), settings.jars / "delta"),
        mlflow_program(settings, credentials, secrets),
        *airflow_programs(settings, credentials, secrets),
    ]


def all_secrets(settings) -> list[str]:
    values = []
    for name in ("credentials.json", "secrets.json"):
        stack = [json.loads((settings.state / name).read_text())]
        while stack:
            for key, value in stack.pop().items():
                if isinstance(value, dict):
                    stack.append(value)
                elif isinstance(value, list):
                    stack += value
                elif key not in ("url", "username"):
                    values.append(value)
    return values


def test_every_program_is_known(programs):
    assert [program.name for program in programs] == list(PROGRAMS)


def test_no_command_line_holds_a_secret(settings, programs):
    secrets = all_secrets(settings)
    assert len(secrets) == 11
    for program in programs:
        assert not any(secret in " ".join(program.command) for secret in secrets)
        assert not any(secret in repr(program) for secret in secrets)


def test_only_the_scheduler_imports_heavy_libraries_beforehand(settings, programs):
    preload = str(settings.state / "airflow" / "scheduler")
    paths = {program.name: program.environment["PYTHONPATH"].split(":") for program in programs}
    assert [name for name, path in paths.items() if preload in path] == ["airflow-scheduler"]


def test_a_foreign_airflow_in_the_shell_has_no_influence(settings, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://elsewhere")
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    monkeypatch.setenv("PENSTOCK_AIRFLOW__CORE__PARALLELISM", "9")
    program = airflow_programs(settings, read_credentials(), ensure_secrets(settings))[0]
    started_with = json.loads(program.description())["environment"]
    assert "elsewhere" not in str(started_with)
    assert started_with["AIRFLOW__CORE__PARALLELISM"] == "9"


def test_supervisor_starts_nothing_unasked_and_reads_any_path(settings, programs):
    settings.logs.mkdir(parents=True)
    Supervisor(settings).configure(programs)
    configuration = configparser.ConfigParser(inline_comment_prefixes=(" ;",))
    configuration.read(settings.run / "supervisord.conf")
    spark = configuration["program:spark"]
    assert spark["stdout_logfile"] == str(settings.logs / "spark.log")
    assert all(configuration[f"program:{name}"]["autostart"] == "false" for name in PROGRAMS)
    assert configuration["unix_http_server"]["file"] == str(settings.socket)


def test_files_with_secrets_are_private(settings, programs):
    Supervisor(settings).configure(programs)
    files = [path for path in settings.run.rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize(
    ("options", "collectors"),
    [((), ["-XX:+UseParallelGC"]), (("-Xss4m",), ["-XX:+UseParallelGC"]), (("-XX:+UseZGC",), ["-XX:+UseZGC"])],
)
def test_spark_has_one_garbage_collector(settings, options, collectors):
    java = Java(Path("/usr/bin/java"), 17)
    chosen = replace(settings, spark_java_options=options)
    command = spark_program(chosen, read_credentials(), java, settings.jars / "delta").command
    assert [option for option in command if option.endswith("GC")] == collectors
    assert set(options) <= set(command)


def test_only_changed_settings_count_as_changed(settings, programs, monkeypatch):
    supervisor = Supervisor(settings)
    assert supervisor.configure(programs) == set(PROGRAMS)
    monkeypatch.setenv("LANG", "xx_XX.UTF-8")  # another shell is no reason to restart
    assert supervisor.configure(programs) == frozenset()
    larger = replace(settings, spark_memory="3g")
    spark = spark_program(larger, read_credentials(), Java(Path("/usr/bin/java"), 17), settings.jars / "delta")
    assert supervisor.configure([spark]) == {"spark"}


def test_a_long_state_folder_still_gets_a_socket(settings, tmp_path):
    far = replace(settings, home=tmp_path / ("deep" * 40))
    assert len(str(far.socket)) < 100
    assert far.socket != replace(far, environment="prod").socket


def test_airflow_imports_the_plugin_file_and_no_other():
    from airflow._shared.module_loading.file_discovery import find_path_from_directory

    plugins = root() / "plugins"
    seen = {Path(path).relative_to(plugins) for path in find_path_from_directory(plugins, ".airflowignore")}
    assert seen <= {Path("penstock_plugin.py")}
