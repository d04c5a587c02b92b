"""What docker-compose.yaml and what belongs to it promise, without a Docker."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from penstock.lakehouse.git import code_state, reviewed_on
from penstock.spec.loading import load_environment
from penstock.spec.variables import substitute
from penstock.stack import containers
from penstock.stack.errors import StackError
from penstock.stack.programs import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
ONCE = {"postgres-init", "airflow-init", "mlflow-webhook"}
VARIABLE = re.compile(r"\$\{(\w+)(:?[?-])?")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "docker-compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


@pytest.fixture
def environment_file(tmp_path: Path) -> Path:
    path = tmp_path / "some.env"
    subprocess.run([ROOT / "docker" / "make-env", "prod", path], check=True, capture_output=True)
    return path


def variables(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_nothing_is_published_but_airflow_and_mlflow_on_the_loopback(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"airflow-apiserver", "mlflow"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not any("network_mode" in service or "privileged" in service for service in services.values())


def test_every_secret_comes_from_a_variable_without_a_default(services):
    for name, service in services.items():
        for variable, value in service["environment"].items():
            if SECRET.search(variable):
                found = VARIABLE.match(value)
                assert found, f"{name}: {variable} is written down"
                assert found[2] == ":?", f"{name}: {variable} has a default, or may be empty"


def test_compose_asks_for_nothing_that_make_env_does_not_write(environment_file):
    text = (ROOT / "docker-compose.yaml").read_text()
    required = {name for name, operator in VARIABLE.findall(text) if operator == ":?"}
    assert required <= set(variables(environment_file))
    assert all(operator for _, operator in VARIABLE.findall(text)), "a variable that may silently be empty"


def test_the_example_names_every_variable_and_holds_no_secret(environment_file):
    example = ROOT / ".env.example"
    text = (ROOT / "docker-compose.yaml").read_text()
    used = {name for name, _ in VARIABLE.findall(text)} | set(variables(environment_file))
    assert {name for name in used if name not in example.read_text()} == set()
    assert {value for name, value in variables(example).items() if SECRET.search(name)} == {""}


def test_images_have_pinned_tags(services):
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = {VARIABLE.sub("", service["image"]).rstrip("}") for service in services.values()}
    for image in {*images, *(base for base in bases if base != "base")}:
        tag = image.rpartition(":")[2] if ":" in image else ""
        assert re.match(r"\d", tag), f"{image} names no version"


def test_every_server_has_a_health_check_and_restarts(services):
    for name, service in services.items():
        if name in ONCE:
            assert service["restart"] == "no"
            assert "healthcheck" not in service
        else:
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] == "CMD"


def test_a_service_starts_after_what_it_needs(services):
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONCE else "service_healthy"
            assert how["condition"] == expected, f"{name} on {needed}"
    assert set(services["airflow-scheduler"]["depends_on"]) == {"airflow-init", "airflow-apiserver", "spark", "mlflow"}


def test_only_named_volumes_are_mounted(compose, services):
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    assert {mount.split(":")[0] for mount in mounts} == set(compose["volumes"])


def test_the_database_is_on_a_network_without_a_way_out(compose, services):
    assert compose["networks"]["database"]["internal"] is True
    assert services["postgres"]["networks"] == ["database"]
    assert services["spark"]["networks"] == ["stack"]


def test_the_image_runs_as_a_user_without_privileges(services):
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["penstock"]
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert name == "postgres" or service["cap_drop"] == ["ALL"], name


def test_every_program_of_the_stack_has_a_service(services):
    commands = [" ".join(service["command"]) for service in services.values() if "command" in service]
    assert sorted(commands) == sorted([*PROGRAMS, "databases", "airflow-migrate", "webhook"])
    for service in services.values():
        if service.get("command", [""])[0] in PROGRAMS:
            assert service["healthcheck"]["test"][-2:] == ["health", service["command"][0]]


def test_environment_files_are_private_and_never_overwritten(environment_file):
    before = environment_file.read_text()
    assert stat.S_IMODE(environment_file.stat().st_mode) == 0o600
    again = subprocess.run([ROOT / "docker" / "make-env", "prod", environment_file], capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert environment_file.read_text() == before


def test_two_environment_files_share_no_secret(environment_file, tmp_path):
    subprocess.run([ROOT / "docker" / "make-env", "prod", tmp_path / "other.env"], check=True, capture_output=True)
    one, other = variables(environment_file), variables(tmp_path / "other.env")
    equal = {name for name in one if one[name] == other[name]}
    assert equal == {"PENSTOCK_ENV", "PENSTOCK_AIRFLOW_PORT", "PENSTOCK_MLFLOW_PORT"}
    secrets = [value for name, value in one.items() if name not in equal]
    assert len(set(secrets)) == len(secrets)
    assert min(map(len, secrets)) >= 32


def test_a_name_that_is_no_environment_is_refused(tmp_path):
    refused = subprocess.run([ROOT / "docker" / "make-env", "Prod;x", tmp_path / "x.env"], capture_output=True)
    assert refused.returncode == 2
    assert list(tmp_path.iterdir()) == []


def built_with(arguments: dict[str, str]) -> dict[str, str]:
    """What the Dockerfile's last ENV that uses build arguments leaves in the image."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    declared = set(re.findall(r"^ARG (\w+)=$", text, re.MULTILINE))
    assert set(arguments) == declared, "an argument that the Dockerfile does not know, or that nobody gives"
    kept = dict(re.findall(r"(\w+)=\$(\w+)(?= |$)", "".join(re.findall(r"^ENV .*\$CODE.*$", text, re.MULTILINE))))
    return {name: arguments[argument] for name, argument in kept.items()}


@pytest.mark.parametrize("section", ["Start", "Deploy a new version"])
def test_an_image_that_is_built_as_the_guide_says_trains_from_reviewed_code(compose, section, tmp_path, monkeypatch):
    guide = (ROOT / "docs/how-to/deploy-with-compose.md").read_text().partition(f"\n## {section}\n")[2]
    exports = re.findall(r"^export PENSTOCK_CODE_.*$", guide.partition("\n## ")[0], re.MULTILINE)
    checkout, inside = tmp_path / "checkout", tmp_path / "image"
    for folder in (checkout, inside):
        folder.mkdir()
    git = ["git", "-C", str(checkout), "-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)

    def build() -> tuple[str | None, tuple[str, ...] | None]:
        """The image's code, and the branches of staging on which it counts as reviewed."""
        told = subprocess.run(
            ["sh", "-euc", "\n".join([*exports, "env"])], cwd=checkout, check=True, capture_output=True, text=True
        ).stdout
        said = dict(line.split("=", 1) for line in told.splitlines() if line.startswith("PENSTOCK_CODE_"))
        given = {name: substitute(value, said.get) for name, value in compose["x-image"]["build"]["args"].items()}
        for name, value in built_with(given).items():
            monkeypatch.setenv(name, value)
        reviewed = load_environment(ROOT, "staging").code.branches
        code = code_state(inside).version
        return code, reviewed_on(inside, code, reviewed)

    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert build() == (head, ("main",))
    subprocess.run([*git, "checkout", "-q", "-b", "mine"], check=True)
    assert build() == (head, ())
    (checkout / "a").write_text("x")
    subprocess.run([*git, "add", "a"], check=True)
    assert build() == (f"{head}-dirty", None)


def test_code_that_is_mounted_over_the_images_is_of_no_commit():
    live = YAML(typ="safe").load((ROOT / "docker/live-code.yaml").read_text())["services"]
    for name, service in live.items():
        assert service["environment"] == {"PENSTOCK_CODE_VERSION": "", "PENSTOCK_CODE_BRANCH": ""}, name


@pytest.fixture
def container(environment_file, services, tmp_path, monkeypatch):
    """Puts this process into the environment of a service's container."""

    def enter(service: str) -> dict[str, str]:
        values = variables(environment_file)
        written = services[service]["environment"].items()
        given = {name: substitute(re.sub(r":\?[^}]*", "", value), values.get) for name, value in written}
        for name in list(os.environ):
            if name.startswith(("PENSTOCK_", "AIRFLOW_", "MLFLOW_", "POSTGRES_")):
                monkeypatch.delenv(name)
        given |= {"PENSTOCK_HOME": str(tmp_path / "state"), "PENSTOCK_JARS": str(tmp_path / "jars")}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return values

    return enter


@pytest.mark.parametrize("service", ["mlflow", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor"])
def test_a_program_finds_what_it_needs_in_its_services_environment(service, services, container):
    values = container(service)
    program = containers.container_program(services[service]["command"][0])
    told = {**program.environment, "command": " ".join(program.command)}
    assert "localhost" not in told.get("AIRFLOW_CONN_PENSTOCK_SPARK", "")
    assert not any(value in told["command"] for name, value in values.items() if SECRET.search(name))


def test_tasks_see_the_services_by_name_and_no_secret_that_was_only_passed_in(container):
    container("airflow-scheduler")
    program = containers.container_program("airflow-scheduler")
    seen = containers.program_environment(program.environment)
    assert seen["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-apiserver:8080/execution/"
    assert "sc://spark" in seen["AIRFLOW_CONN_PENSTOCK_SPARK"]
    assert seen["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql+psycopg2://airflow:")
    assert not {name for name in seen if name.startswith("PENSTOCK_") and SECRET.search(name)}


def test_only_the_api_server_holds_the_passwords_of_airflows_users(container):
    container("airflow-scheduler")
    scheduler = containers.container_program("airflow-scheduler")
    assert [path.name for path in scheduler.files] == ["airflow_local_settings.py"]
    values = container("airflow-apiserver")
    server = containers.container_program("airflow-api-server")
    (passwords,) = server.files.values()
    seen = containers.program_environment(server.environment)
    assert seen["PENSTOCK_WEBHOOK_SECRET"] == values["PENSTOCK_WEBHOOK_SECRET"]
    assert values["PENSTOCK_AIRFLOW_ENGINEER_PASSWORD"] in passwords


def test_a_password_may_hold_any_character(container, monkeypatch):
    container("mlflow")
    monkeypatch.setenv("PENSTOCK_MLFLOW_DB_PASSWORD", "a@b/c:50%")
    program = containers.container_program("mlflow")
    assert program.environment["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://mlflow:a%40b%2Fc%3A50%25@")
    (authentication,) = program.files.values()
    assert "a%%40b%%2Fc%%3A50%%25@postgres" in authentication  # '%' is special in the file


def test_missing_variables_are_all_named(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PENSTOCK_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_AIRFLOW_DB_PASSWORD", "x")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "x")
    with pytest.raises(StackError, match="PENSTOCK_AIRFLOW_FERNET_KEY, PENSTOCK_AIRFLOW_JWT_SECRET"):
        containers.container_program("airflow-triggerer")


def test_spark_without_a_token_asks_for_none(container, tmp_path):
    container("spark")
    with pytest.raises(StackError, match="build the image again"):
        containers.container_program("spark")
    from penstock.stack.jars import DELTA, delta_folder

    folder = delta_folder(tmp_path / "jars")
    folder.mkdir(parents=True)
    (folder / f"{DELTA[1]}-{DELTA[2]}.jar").touch()
    program = containers.container_program("spark")
    assert "SPARK_CONNECT_AUTHENTICATE_TOKEN" not in program.environment
    properties = next(text for path, text in program.files.items() if path.name == "spark.conf")
    assert "spark.connect.grpc.binding.address 0.0.0.0" in properties
