"""Loading a project or an environment: everything wrong at once, nothing heavy imported, no secret shown."""

import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import SpecError
from penstock.spec.faults import InvalidSpecError
from penstock.spec.functions import load_function
from penstock.spec.graph import CyclicInputsError, feature_table_order
from penstock.spec.loading import load_environment, load_project, project_names
from penstock.spec.variables import UnsetVariable, substitute
from tests.unit.spec_project import Root, write_root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return write_root(tmp_path)


def test_loads_a_project(root: Root) -> None:
    project = load_project(root.path, "shop")
    assert project_names(root.path) == ["shop"]
    assert project.folder == root.file("project.yaml").parent
    features = ["amount", "items", "mean_amount", "day_orders", "returned", "basket"]
    assert project.model("comes_back").feature_names == features
    assert project.model("comes_back").lookups[0].max_age == timedelta(days=3)
    assert project.spec.sources["orders"].columns["amount"].description == "euros"


def test_loading_imports_nothing_heavy(root: Root) -> None:
    program = (
        "import sys; from pathlib import Path; from penstock.spec.loading import load_project; "
        f"load_project(Path({str(root.path)!r}), 'shop'); "
        "print({'sqlglot', 'pandas', 'pyspark', 'mlflow', 'great_expectations', 'airflow', 'numpy'} & set(sys.modules))"
    )
    path = str(Path(__file__).resolve().parents[2] / "plugins")
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_an_error_carries_every_fault_and_survives_pickling(root: Root) -> None:
    root.edit("project.yaml", "land: sources.orders", "lands: sources.orders")
    root.edit("project.yaml", "threshold: 3", "threshold: three")
    root.edit("project.yaml", "  customer_daily:\n    description: A customer's day.", "  customer_daily:")
    with pytest.raises(SpecError) as raised:
        load_project(root.path, "shop")
    error = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(error, InvalidSpecError)
    assert [fault.path for fault in error.faults] == [
        "sources.orders.lands",
        "feature_tables.customer_daily.description",
        "models.comes_back.monitoring.feature_rules.amount.threshold",
    ]
    assert str(error).count("\n") == 2


def test_the_sound_parts_of_a_broken_file_are_checked_too(root: Root) -> None:
    """A fault of shape in one table hides neither faults of reference elsewhere, nor makes false ones."""
    root.edit("project.yaml", "features: [returned]", "features: [returnd]")
    root.edit("project.yaml", "  customer_daily:\n    description: A customer's day.", "  customer_daily:")
    root.edit("project.yaml", "    land: sources.orders", "    land: sources.nothing\n    zzz: 1")
    paths = [fault.path for fault in root.validate().faults]
    assert sorted(paths) == [
        "feature_tables.customer_daily.description",
        "models.comes_back.lookups[1].features[0]",
        "sources.orders.land",
        "sources.orders.zzz",
    ]


def test_the_text_of_an_error_is_bounded(root: Root) -> None:
    columns = "".join(f"      Column{number}: string\n" for number in range(100))
    root.edit("project.yaml", "      items: int\n", columns)
    with pytest.raises(InvalidSpecError) as raised:
        load_project(root.path, "shop")
    assert len(raised.value.faults) >= 100
    assert len(str(raised.value).splitlines()) == 21
    assert "more: `penstock validate` lists them all" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("null\n", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "is a list"),
        ("a: &a [*a]\n", "an alias holds itself"),
        ("a: 1\n---\nb: 2\n", "is no valid YAML"),
        ("a: \x07\n", "does not allow"),
    ],
)
def test_refuses_what_is_no_project_at_all(root: Root, content: str, message: str) -> None:
    root.write("project.yaml", content)
    with pytest.raises(InvalidSpecError, match=message):
        load_project(root.path, "shop")


def test_refuses_a_file_in_another_encoding(root: Root) -> None:
    root.file("project.yaml").write_bytes("name: shop\nowner: Jürgen\n".encode("latin-1"))
    with pytest.raises(InvalidSpecError, match=r"project.yaml:2: is not UTF-8"):
        load_project(root.path, "shop")


def test_many_aliases_of_aliases_are_refused_quickly(root: Root) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    root.write("project.yaml", "\n".join(lines))
    with pytest.raises(InvalidSpecError, match="is too large"):
        load_project(root.path, "shop")


def test_merge_keys_are_no_duplicates(root: Root) -> None:
    root.edit(
        "project.yaml",
        "      items: int\n",
        "      items: &whole {type: int}\n      size: {<<: *whole, type: bigint}\n",
    )
    assert load_project(root.path, "shop").spec.sources["orders"].columns["size"].type == "bigint"


def test_an_unknown_project_is_named(root: Root) -> None:
    with pytest.raises(InvalidSpecError, match=r"shop_/project.yaml:1: no such file"):
        load_project(root.path, "shop_")


def test_an_unknown_environment_is_named_with_the_closest(root: Root) -> None:
    with pytest.raises(InvalidSpecError, match=r"devel.yaml:1: no such file; PENSTOCK_ENV .*: write dev"):
        load_environment(root.path, "devel")


def test_variables_have_defaults_which_may_hold_variables() -> None:
    values = {"BUCKET": "s3://b", "EMPTY": ""}
    assert substitute("${BUCKET}/x", values.get) == "s3://b/x"
    assert substitute("${NONE:-${BUCKET}/prod}/lake", values.get) == "s3://b/prod/lake"
    assert substitute("${EMPTY:-d}", values.get) == "d"
    assert substitute("${EMPTY}", values.get) == ""
    assert substitute("${NONE:-}", values.get) == ""
    with pytest.raises(UnsetVariable):
        substitute("${NONE:-${NEITHER}}", values.get)


def test_an_environment_is_filled_from_variables(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_environment(root.path, "prod").lakehouse.root == "/data/lakehouse"
    monkeypatch.setenv("SHOP_BUCKET", "s3://shop")
    assert load_environment(root.path, "prod").lakehouse.root == "s3://shop"


def test_the_value_of_a_variable_is_never_shown(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", "hunter2")
    for old, new in (
        ("schedules: true", "schedules: ${SHOP_SECRET}"),
        ("approval: {mode: human,", 'limits: {trials: "${SHOP_SECRET}"}\napproval: {mode: "${SHOP_SECRET}",'),
        ('"${SHOP_MLFLOW:-https://mlflow.example.com}"', '"${SHOP_SECRET}"'),
    ):
        root.edit("prod.yaml", old, new)
        with pytest.raises(InvalidSpecError) as raised:
            load_environment(root.path, "prod")
        assert "hunter2" not in str(raised.value)
        assert "hunter2" not in repr(raised.value.faults)


def test_feature_tables_are_ordered_inputs_first(root: Root) -> None:
    root.edit("project.yaml", "    inputs: [orders]\n", "    inputs: [orders, shop.customer_returns]\n")
    project = load_project(root.path, "shop").spec
    assert feature_table_order(project) == ["customer_returns", "customer_daily"]


def test_a_circle_of_inputs_has_no_order(root: Root) -> None:
    project = load_project(root.path, "shop").spec
    tables = {
        name: table.model_copy(update={"inputs": [other]})
        for (name, table), other in zip(
            project.feature_tables.items(), ["customer_returns", "customer_daily"], strict=True
        )
    }
    circular = project.model_copy(update={"feature_tables": tables})
    with pytest.raises(CyclicInputsError, match="customer_daily -> customer_returns -> customer_daily") as raised:
        feature_table_order(circular)
    assert pickle.loads(pickle.dumps(raised.value)).cycle == raised.value.cycle


def test_a_circle_of_inputs_is_refused_on_loading(root: Root) -> None:
    root.edit("project.yaml", "inputs: [returns, orders]", "inputs: [returns, orders, customer_daily]")
    root.edit("project.yaml", "    inputs: [orders]\n", "    inputs: [orders, customer_returns]\n")
    with pytest.raises(InvalidSpecError, match="circle: customer_daily -> customer_returns -> customer_daily"):
        load_project(root.path, "shop")


def test_loads_a_function_of_the_project(root: Root) -> None:
    project = load_project(root.path, "shop")
    assert load_function(project, "models.back.train").__name__ == "train"
    with pytest.raises(SpecError, match="has no function nothing"):
        load_function(project, "models.back.nothing")
    with pytest.raises(SpecError, match="in project.yaml, write train, or add the function"):
        load_function(project, "models.back.trainn")
    with pytest.raises(
        SpecError, match=r"models/nothing.py: cannot be imported: .*; mend the file, or correct models.nothing.train"
    ):
        load_function(project, "models.nothing.train")


def test_an_edited_module_runs_as_it_is_now_and_so_do_those_that_import_it(root: Root) -> None:
    """In one process, within the same second, and with as many bytes as before."""
    project = load_project(root.path, "shop")
    models = project.folder / "models"
    (models / "rates.py").write_text("RATE = 1\n")
    (models / "prices.py").write_text("from . import rates\n\ndef price():\n    return rates.RATE\n")
    before = load_function(project, "models.prices.price")
    assert load_function(project, "models.prices.price") is before
    (models / "rates.py").write_text("RATE = 2\n")
    after = load_function(project, "models.prices.price")
    assert (before(), after()) == (1, 2)
    (models / "rates.py").unlink()
    with pytest.raises(SpecError, match=r"models/prices.py: cannot be imported: ImportError"):
        load_function(project, "models.prices.price")
    (models / "rates.py").write_text("RATE = 3\n")
    assert load_function(project, "models.prices.price")() == 3


def test_a_module_with_an_error_is_imported_once_it_is_mended(root: Root) -> None:
    project = load_project(root.path, "shop")
    (project.folder / "models/odd.py").write_text("def price():\n    return 1 +\n")
    with pytest.raises(SpecError, match=r"models/odd.py: cannot be imported: SyntaxError"):
        load_function(project, "models.odd.price")
    (project.folder / "models/odd.py").write_text("def price():\n    return 1\n")
    assert load_function(project, "models.odd.price")() == 1


def test_a_function_that_is_sent_to_a_server_needs_no_penstock_there(root: Root) -> None:
    from pyspark import cloudpickle

    project = load_project(root.path, "shop")
    (project.folder / "models/rates.py").write_text("RATE = 1\n")
    (project.folder / "models/prices.py").write_text("from . import rates\n\ndef price():\n    return rates.RATE\n")
    price = load_function(project, "models.prices.price")
    package = sys.modules[price.__module__.partition(".")[0]]
    cloudpickle.register_pickle_by_value(package)
    try:
        sent = cloudpickle.dumps(price)
    finally:
        cloudpickle.unregister_pickle_by_value(package)
    assert b"rates" in sent
    assert b"penstock.spec" not in sent
