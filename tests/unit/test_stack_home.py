"""Where state lives and how the generated logins are read."""

import json
import stat

import pytest

from penstock import home
from penstock.stack.credentials import ensure_credentials, ensure_secrets
from penstock.stack.errors import StackError
from penstock.stack.settings import StackSettings, read_settings


@pytest.fixture
def settings(tmp_path, monkeypatch) -> StackSettings:
    for variable in ("PENSTOCK_AIRFLOW_PORT", "PENSTOCK_MLFLOW_PORT", "PENSTOCK_SPARK_PORT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PENSTOCK_ENV", "staging")
    return read_settings()


def test_each_environment_has_its_own_state(settings, tmp_path):
    assert home.state_dir() == tmp_path / "state" / "staging" == settings.state
    assert home.state_dir("dev") == tmp_path / "state" / "dev"


def test_without_variables_the_state_is_beside_the_code(monkeypatch):
    monkeypatch.delenv("PENSTOCK_HOME", raising=False)
    monkeypatch.delenv("PENSTOCK_ENV", raising=False)
    assert home.state_dir() == home.root() / ".penstock" / "dev"
    assert (home.root() / "plugins" / "penstock" / "home.py").is_file()


@pytest.mark.parametrize("port", ["0", "70000", "http", "-1"])
def test_a_wrong_port_is_named(monkeypatch, port):
    monkeypatch.setenv("PENSTOCK_MLFLOW_PORT", port)
    with pytest.raises(home.LocalStackError, match="PENSTOCK_MLFLOW_PORT"):
        home.ports()


def test_two_services_on_one_port_are_refused(monkeypatch):
    monkeypatch.setenv("PENSTOCK_MLFLOW_PORT", "5001")
    monkeypatch.setenv("PENSTOCK_AIRFLOW_PORT", "5001")
    with pytest.raises(home.LocalStackError, match="share a port"):
        home.ports()


def test_an_environment_name_cannot_leave_the_state_folder(monkeypatch):
    monkeypatch.setenv("PENSTOCK_ENV", "../elsewhere")
    with pytest.raises(home.LocalStackError, match="PENSTOCK_ENV"):
        home.environment_name()


def test_before_the_first_start_the_error_says_how_to_start(settings):
    with pytest.raises(home.LocalStackError, match="penstock up"):
        home.read_credentials()


def test_a_damaged_file_is_named(settings):
    ensure_credentials(settings)
    home.credentials_path().write_text('{"airflow": {}}')
    with pytest.raises(home.LocalStackError, match=r"credentials\.json"):
        home.read_credentials()


def test_logins_are_private_and_stay_when_ports_change(settings, monkeypatch):
    ensure_credentials(settings)
    first = home.read_credentials()
    monkeypatch.setenv("PENSTOCK_SPARK_PORT", "15999")
    ensure_credentials(read_settings())
    second = home.read_credentials()
    assert stat.S_IMODE(home.credentials_path().stat().st_mode) == 0o600
    assert (first.spark.url, second.spark.url) == ("sc://localhost:15002", "sc://localhost:15999")
    assert first.spark.token == second.spark.token
    assert first.airflow == second.airflow
    assert second.spark.remote == f"sc://localhost:15999/;token={second.spark.token}"


def test_every_login_differs_and_none_shows_in_a_repr(settings):
    ensure_credentials(settings)
    credentials = home.read_credentials()
    airflow = credentials.airflow
    passwords = [airflow.password, *(login.password for login in airflow.others)]
    passwords += [credentials.mlflow.password, credentials.spark.token]
    assert len(set(passwords)) == len(passwords) == 5
    assert not any(password in repr(credentials) for password in passwords)
    assert airflow.login("scientist").password in passwords
    with pytest.raises(home.LocalStackError, match="nobody"):
        airflow.login("nobody")


def test_the_address_in_the_file_holds_no_token(settings):
    ensure_credentials(settings)
    content = json.loads(home.credentials_path().read_text())
    assert content["spark"]["token"] not in content["spark"]["url"]


def test_keys_are_made_once(settings):
    assert ensure_secrets(settings) == ensure_secrets(settings)
    assert stat.S_IMODE((settings.state / "secrets.json").stat().st_mode) == 0o600


def test_options_of_sparks_jvm_are_those_of_a_shell(settings, monkeypatch):
    monkeypatch.setenv("PENSTOCK_SPARK_JAVA_OPTIONS", "-XX:+UseZGC '-Dname=two words'")
    assert read_settings().spark_java_options == ("-XX:+UseZGC", "-Dname=two words")
    for text, reason in {
        "-Dname='open": "No closing quotation",
        "UseZGC": "no option",
        "-Xmx8g": "SPARK_MEMORY",
    }.items():
        monkeypatch.setenv("PENSTOCK_SPARK_JAVA_OPTIONS", text)
        with pytest.raises(StackError, match=f"PENSTOCK_SPARK_JAVA_OPTIONS.*{reason}"):
            read_settings()
