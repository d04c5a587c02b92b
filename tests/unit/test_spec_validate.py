"""`penstock validate`: all projects and environments at once, for people and for programs."""

import json
from pathlib import Path

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from penstock.commands.validate import validate, write_generated
from penstock.lakehouse.system_tables import SystemTable
from penstock.spec import names
from penstock.spec.faults import Severity
from penstock.spec.reference import environment_page, project_page, reference_files
from penstock.spec.schema import schema_files
from tests.unit.spec_project import PROJECT, Root, write_root

REPOSITORY = Path(__file__).resolve().parents[2]
app = typer.Typer()
app.command()(validate)

WHOLESALE = """\
name: wholesale
description: Deliveries.
owner: wholesale@example.com
feature_tables:
  stock:
    description: What is there.
    primary_keys: [item]
    inputs: [shop.customer_daily]
    sql: stock.sql
    columns: {item: string, event_time: timestamp}
"""
STOCK = "SELECT customer AS item, event_time FROM shop.customer_daily\n"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return write_root(tmp_path)


def add_wholesale(root: Root, project: str = WHOLESALE, sql: str = STOCK) -> None:
    folder = root.path / "include" / "projects" / "wholesale"
    folder.mkdir()
    (folder / "project.yaml").write_text(project)
    (folder / "stock.sql").write_text(sql)


def test_the_projects_of_this_repository_are_valid() -> None:
    found = CliRunner().invoke(app, ["--root", str(REPOSITORY)])
    assert found.exit_code == 0, found.output
    assert "0 errors, 0 warnings" in found.output


def test_says_file_and_line_as_editors_understand_it(root: Root) -> None:
    root.edit("project.yaml", "available_at: known_at\n    land", "available_at: knwn_at\n    land")
    found = CliRunner().invoke(app, ["--root", str(root.path)])
    assert found.exit_code == 1
    assert found.output.splitlines() == [
        "include/projects/shop/project.yaml:8: sources.orders.available_at: orders has no column 'knwn_at'; "
        "write known_at",
        "1 project, 2 environments: 1 error, 0 warnings",
    ]


def test_reports_all_projects_and_environments_at_once(root: Root) -> None:
    root.edit("project.yaml", "available_at: known_at\n    land", "available_at: knwn_at\n    land")
    root.edit("project.yaml", "metric: cost, tol", "metric: costs, tol")
    root.edit("features/customer_daily.sql", "avg(amount)", "avg(amont)")
    root.edit("expectations/orders.yaml", "severity: warning", "severity: warn")
    root.edit("models/back.py", "def train(training, tuning,", "def train(training,")
    root.edit("dev.yaml", "name: dev\n", "name: devel\n")
    root.edit("prod.yaml", "schedules: true\n", "")
    add_wholesale(root, sql=STOCK.replace("customer AS", "nobody AS"))
    found = CliRunner().invoke(app, ["--root", str(root.path), "--json"])
    assert found.exit_code == 1
    report = json.loads(found.output)
    assert (report["projects"], report["environments"]) == (["shop", "wholesale"], ["dev", "prod"])
    assert (report["errors"], report["warnings"]) == (8, 0)
    assert [(Path(fault["file"]).name, fault["line"]) for fault in report["faults"]] == [
        ("dev.yaml", 1), ("prod.yaml", 1), ("orders.yaml", 5), ("customer_daily.sql", 5), ("back.py", 3),
        ("project.yaml", 8), ("project.yaml", 102), ("stock.sql", 1),
    ]  # fmt: skip
    assert all(fault["message"] and fault["remedy"] for fault in report["faults"])


def test_secrets_of_other_environments_need_not_be_here(root: Root) -> None:
    root.edit("prod.yaml", "${SHOP_MLFLOW:-https://mlflow.example.com}", "${SHOP_MLFLOW}")
    (fault,) = root.validate("dev").faults
    assert (fault.severity, fault.line) == (Severity.WARNING, 4)
    assert "SHOP_MLFLOW is not set" in fault.message
    assert root.validate("dev").errors == 0
    assert root.validate("prod").errors == 1


def test_the_selected_environment_must_exist(root: Root) -> None:
    (fault,) = root.validate("staging").faults
    assert "'staging' has no file" in fault.message
    assert fault.remedy == "create it, or set PENSTOCK_ENV to one of: dev, prod"


def test_files_that_are_not_read_are_named(root: Root) -> None:
    root.write("../other/project.yml", "name: other\n")
    root.write("../stray/notes.md", "")
    faults = root.validate().faults
    assert [(fault.severity, fault.remedy) for fault in faults] == [
        (Severity.ERROR, "rename it to project.yaml"),
        (Severity.WARNING, "add one, or remove the folder"),
    ]


def test_a_root_without_projects_is_named(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["--root", str(tmp_path)])
    assert found.exit_code == 1
    assert "there is no such folder; create it, or name another root by --root" in found.output


def test_projects_may_read_each_other(root: Root) -> None:
    add_wholesale(root)
    assert root.validate().faults == ()


def test_a_forced_root_is_written_with_a_dot_in_sql(root: Root) -> None:
    add_wholesale(
        root,
        WHOLESALE.replace("[shop.customer_daily]", '["prod:shop.customer_daily"]'),
        STOCK.replace("FROM ", "FROM prod."),
    )
    assert root.validate().faults == ()


def test_columns_of_other_projects_are_checked(root: Root) -> None:
    add_wholesale(root, sql=STOCK.replace("customer AS", "custmer AS"))
    assert root.only_fault().message == "no input has a column 'custmer'"


def test_a_circle_between_projects_is_named(root: Root) -> None:
    root.edit("project.yaml", "inputs: [returns, orders]", "inputs: [returns, orders, wholesale.stock]")
    add_wholesale(root, WHOLESALE.replace("customer_daily", "customer_returns"), STOCK.replace("daily", "returns"))
    fault = root.only_fault()
    assert fault.message == "the projects read each other in a circle: shop -> wholesale -> shop"
    assert fault.path == "feature_tables.customer_returns.inputs[2]"


def test_a_broken_project_makes_no_faults_in_those_that_read_it(root: Root) -> None:
    root.write("project.yaml", "name: [\n")
    add_wholesale(root)
    assert [Path(fault.file).parent.name for fault in root.validate().faults] == ["shop"]


def test_an_input_that_is_never_read_is_a_warning(root: Root) -> None:
    root.edit("project.yaml", "    inputs: [orders]\n", "    inputs: [orders, returns]\n")
    fault = root.only_fault()
    assert fault.severity is Severity.WARNING
    assert "does not read the input 'returns'" in fault.message


def test_keys_that_do_not_identify_a_row_are_a_warning(root: Root) -> None:
    root.edit("project.yaml", "keys: [customer, order_id]\n      prediction", "keys: [order_id]\n      prediction")
    fault = root.only_fault()
    assert fault.severity is Severity.WARNING
    assert "keys and prediction_time lack customer" in fault.message


def test_warns_of_labels_that_differ_by_more_than_the_entitys_keys(root: Root) -> None:
    root.edit(
        "project.yaml", "returns:\n    description: What came back.\n    primary_keys: [customer, order_id]",
        "returns:\n    description: What came back.\n    primary_keys: [customer, order_id, known_at]",
    )  # fmt: skip
    fault = root.only_fault()
    assert fault.severity is Severity.WARNING
    assert "rows of returns also differ by known_at, which the entity's keys lack" in fault.message
    assert "add known_at to entity.keys" in fault.remedy


def test_a_numeric_distance_of_a_text_is_refused(root: Root) -> None:
    root.edit("project.yaml", "features: [amount, items]", "features: [amount, items, customer]")
    root.edit("project.yaml", "        amount: {method", "        customer: {method")
    assert root.only_fault().message == "wasserstein measures numbers, and 'customer' is a string"


def test_a_feature_of_the_entity_may_not_take_a_name_of_penstocks_own(root: Root) -> None:
    root.edit("project.yaml", "      items: int\n", "      items: int\n      label: int\n")
    root.edit("project.yaml", "features: [amount, items]", "features: [amount, items, label]")
    assert root.only_fault().message == "'label' is the name of a column of Penstock's own tables"


def test_a_model_needs_features(root: Root) -> None:
    project = PROJECT.replace("features: [amount, items]", "features: []")
    start, end = project.index("    lookups:"), project.index("    training:")
    monitoring = project.index("    monitoring:")
    root.write("project.yaml", project[:start] + project[end:monitoring])
    assert root.only_fault().message == "the model sees no features"


def test_approvers_that_nobody_asks_are_a_warning(root: Root) -> None:
    root.edit("dev.yaml", "{mode: automatic}", "{mode: automatic, approvers: [ada]}")
    fault = root.only_fault()
    assert (fault.severity, fault.path) == (Severity.WARNING, "approval.approvers")


def test_who_is_not_told_and_who_is_not_named_where_people_approve_are_warnings(root: Root) -> None:
    root.edit("prod.yaml", "{mode: human, approvers: [ada]}", "{mode: human}")
    root.edit("prod.yaml", "{path: /tmp/told.jsonl}}", "{path: /tmp/told.jsonl}, events: [rolled_back]}")
    faults = root.validate().faults
    assert {fault.severity for fault in faults} == {Severity.WARNING}
    assert [fault.path for fault in faults] == ["approval.approvers", "notifications"]


def test_a_project_that_judges_its_origin_is_warned_that_it_counts_in_dev_only(root: Root) -> None:
    asked = "    promotion:\n      metric: log_loss\n"
    root.edit("project.yaml", asked, f"{asked}      compliance: {{severities: {{origin: 'off', latency: 'off'}}}}\n")
    fault = root.only_fault()
    assert (fault.severity, fault.message) == (
        Severity.WARNING, "off counts in dev only: elsewhere the environment judges origin",
    )  # fmt: skip


def test_tables_that_are_left_out_for_their_faults_are_not_missed(root: Root) -> None:
    root.edit("project.yaml", "  orders:\n    description: What was ordered.\n", "  orders:\n")
    assert root.only_fault().message == "description is missing"


def test_functions_may_be_imported_decorated_or_assigned(root: Root) -> None:
    root.write(
        "models/back.py",
        "try:\n    from .other import train\nexcept ImportError:\n    from other import train\n"
        "import functools\n\n@functools.cache\ndef cost(): ...\n\ndef basket(inputs): ...\n\nguess: object = print\n",
    )
    assert root.validate().faults == ()


def test_schemas_and_reference_pages_are_current() -> None:
    stale = [
        str(file.relative_to(REPOSITORY))
        for file, content in {**schema_files(REPOSITORY), **reference_files(REPOSITORY)}.items()
        if not file.is_file() or file.read_text(encoding="utf-8") != content
    ]
    assert stale == [], "run `penstock validate --write-schema`"


def test_writes_schemas_once(tmp_path: Path) -> None:
    assert [file.name for file in write_generated(tmp_path)] == [
        "project.schema.json", "environment.schema.json", "expectations.schema.json",
    ]  # fmt: skip
    assert write_generated(tmp_path) == []


def test_every_field_has_a_meaning_in_the_reference() -> None:
    for page in (project_page(), environment_page()):
        rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
        assert len(rows) > 15
        assert all(len(row) == 4 and row[3].strip(" |") not in ("", "None") for row in rows)


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [("project", "projects/*/project.yaml"), ("environment", "environments/*.yaml"),
     ("expectations", "projects/*/expectations/*.yaml")],
)  # fmt: skip
def test_yaml_files_name_their_schema_and_fit_it(schema: str, pattern: str) -> None:
    files = sorted((REPOSITORY / "include").glob(pattern))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        path = (file.parent / named).resolve()
        assert path == REPOSITORY / "include" / "schema" / f"{schema}.schema.json"
        Draft202012Validator(json.loads(path.read_text())).validate(yaml.safe_load(text))


def test_the_schema_refuses_what_the_models_refuse(tmp_path: Path) -> None:
    (schema,) = [json.loads(text) for file, text in schema_files(tmp_path).items() if "project" in file.name]
    Draft202012Validator(schema).validate(yaml.safe_load(PROJECT))
    for old, new in (("max_age: 3d", "max_age: 3 days"), ("items: int", "items: integer"), ("owner:", "ownr:")):
        assert not Draft202012Validator(schema).is_valid(yaml.safe_load(PROJECT.replace(old, new)))


def test_names_that_are_taken_are_those_of_the_system_tables() -> None:
    assert sorted(names.SYSTEM_TABLES) == sorted(SystemTable)


def test_metrics_that_are_known_are_those_that_training_computes() -> None:
    from penstock.training import metrics

    assert (names.CLASSIFICATION_METRICS, names.REGRESSION_METRICS) == (metrics.CLASSIFICATION, metrics.REGRESSION)


def test_known_expectations_are_those_of_great_expectations() -> None:
    from great_expectations.expectations import registry

    import penstock.quality.suite as suite
    from penstock.spec.suite import EXPECTATIONS

    suite.import_great_expectations()
    known = set(registry.list_registered_expectation_implementations()) - set(suite._UNSUPPORTED)
    assert known == EXPECTATIONS
