"""The command line: its reference page, exit codes, and what it says where an argument is wrong."""

import io
import json
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from penstock import cli
from penstock.commands.maintain import print_maintained
from penstock.commands.reference import commands_page, write_commands_page
from penstock.errors import NothingToDo, SpecError
from penstock.maintenance import MaintainedProject, MaintainedTable
from penstock.runner import PIPELINES
from penstock.spec.loading import given_project
from tests.unit.spec_project import PROJECT, Root, write_root

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESSED = "\nspark: {address: 'sc://localhost:1'}\nmlflow: {tracking_uri: 'http://localhost:1'}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """A root that the command works on, with an empty state folder."""
    monkeypatch.setenv("PENSTOCK_ROOT", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PENSTOCK_ENV", "dev")
    return write_root(tmp_path)


def test_the_reference_of_the_commands_is_current() -> None:
    page = REPOSITORY / "docs/reference/commands.md"
    assert page.read_text(encoding="utf-8") == commands_page(cli.app), "run `penstock validate --write-schema`"
    assert write_commands_page(cli.app, REPOSITORY) is None


def test_the_reference_names_every_command_and_cuts_no_text() -> None:
    page = commands_page(cli.app)
    for command in ("up", "logs", "online compare", "training-set rebuild", "tuning best"):
        assert f"## `penstock {command}`" in page
    assert all(name in page for name in PIPELINES)
    assert not [line for line in page.splitlines() if line.startswith("* ") and line.endswith("...")]


def test_nothing_to_do_is_said_and_no_failure() -> None:
    def idle() -> None:
        raise NothingToDo("shop.late is not frozen")

    app = typer.Typer()
    app.command()(cli.explains_errors(idle))
    done = CliRunner().invoke(app, [])
    assert (done.exit_code, done.output.strip()) == (0, "nothing to do: shop.late is not frozen")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "training", "shop"], "which model? Write PROJECT.MODEL, such as shop.comes_back"),
        (["run", "trainin", "shop.comes_back"], "unknown pipeline 'trainin': there are feature_refresh, training"),
        (
            ["run", "feature_refresh", "shop", "--backfill", "customer_daily", "--backfill-from", "may"],
            "backfill_from: 'may' is no timestamp: write ISO 8601",
        ),
        (
            ["run", "feature_refresh", "shop", "--backfill", "customer_daily", "--backfill-until", "2999-01-01"],
            "backfill_until: 2999-01-01T00:00:00Z lies in the future",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_its_remedy(root: Root, words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 1
    assert message in done.output


def test_an_unknown_environment_names_the_variable_that_selects_it(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ENV", "prd")
    done = CliRunner().invoke(cli.app, ["run", "training", "shop.comes_back"])
    assert done.exit_code == 1
    assert "PENSTOCK_ENV selects the environment: write prod" in done.output


def test_status_without_a_local_stack_asks_the_services_that_the_environment_names(root: Root) -> None:
    root.write("dev.yaml", root.file("dev.yaml").read_text() + ADDRESSED)
    done = CliRunner().invoke(cli.app, ["status", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {name: (one["state"], one["url"]) for name, one in found["services"].items()} == {
        "spark": ("down", "sc://localhost:1"), "mlflow": ("down", "http://localhost:1"),
    }  # fmt: skip
    assert found["projects"]["shop"]["models"]["comes_back"]["versions"] is None
    said = CliRunner().invoke(cli.app, ["status"]).output
    assert "comes_back: MLflow is down, so its versions are not known" in said


def test_status_of_a_server_behind_tls_is_not_known(root: Root) -> None:
    secured = ADDRESSED.replace("sc://localhost:1", "sc://spark.example:443/;use_ssl=true;token=secret")
    root.write("dev.yaml", root.file("dev.yaml").read_text() + secured)
    said = CliRunner().invoke(cli.app, ["status", "--json"]).stdout
    spark = json.loads(said)["services"]["spark"]
    assert (spark["state"], spark["url"]) == ("unknown", "sc://spark.example:443")
    assert "secret" not in said


def test_status_of_a_local_stack_that_was_never_started_shows_its_services_down(root: Root) -> None:
    found = json.loads(CliRunner().invoke(cli.app, ["status", "--json"]).stdout)
    assert {name: one["state"] for name, one in found["services"].items()} == dict.fromkeys(
        ("spark", "mlflow", "airflow"), "down"
    )
    assert (found["projects"], found["undeclared"]) == ({}, {})


def test_maintenance_names_the_models_that_versions_are_kept_for() -> None:
    pinned = {"2": "shop.late version 1", "5": "shop.late version 3"}
    table = MaintainedTable("shop.orders", "spark", 12, 3, 9000, 4000, 8, pinned, ["a checkpoint is missing"])
    output = Console(file=io.StringIO(), width=160)
    print_maintained(MaintainedProject("shop", True, (table,), ("/home/ann/environment",)), output)
    said = output.file.getvalue()
    for told in ("2 (shop.late version 1)", "5 (shop.late version 3)", "shop.orders: a checkpoint is missing"):
        assert told in said
    assert "old environments of the check own_environment: 1 would be removed\n5,000 bytes would be freed" in said


def test_a_declaration_given_in_place_is_refused_by_field(tmp_path: Path) -> None:
    declaration = yaml.safe_load(PROJECT)
    assert given_project(declaration, tmp_path).name == "shop"
    del declaration["owner"]
    declaration["feature_tables"]["customer_daily"]["inputs"] = "orders"
    with pytest.raises(SpecError, match="given in place is wrong") as caught:
        given_project(declaration, tmp_path)
    said = str(caught.value)
    assert "owner is missing; add `owner: …`" in said
    assert "feature_tables.customer_daily.inputs: " in said
    declaration = yaml.safe_load(PROJECT) | {"models": {}}
    declaration["feature_tables"]["customer_daily"]["inputs"] = ["order"]
    with pytest.raises(SpecError, match="'order' is neither a source nor a feature table of shop; write orders"):
        given_project(declaration, tmp_path)
