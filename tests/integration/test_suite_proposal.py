"""`penstock suite propose`: the suite passes on the data that it came from, and not on corrupted data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.errors import TableError
from penstock.gates import Outcome
from penstock.lakehouse.small_tables import create_if_missing, to_arrow
from penstock.quality.proposal import propose_suite
from penstock.quality.suite import load_suite
from penstock.quality.validation import validate_batch
from penstock.spec.validation import validate_root
from penstock.workspace import Workspace
from tests.integration.test_quarantine_release import workspace  # noqa: F401  (a fixture)

PROJECT, TABLE = "shop", "orders"


def orders(rows: int = 400) -> pd.DataFrame:
    """Orders of three shops; some amounts are missing."""
    rng = np.random.default_rng(7)
    amount = rng.uniform(-20, 100, rows)
    amount[::50] = np.nan
    return pd.DataFrame(
        {
            "order_id": pd.array(range(rows), dtype="Int32"), "shop": rng.choice(["a", "b", "no"], rows),
            "amount": amount, "known_at": pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC").as_unit("us"),
        }
    )  # fmt: skip


def fill(workspace: Workspace, frame: pd.DataFrame) -> None:  # noqa: F811
    from deltalake import write_deltalake

    source = workspace.project(PROJECT).spec.sources[TABLE]
    path = workspace.addresses.writable(f"{PROJECT}.{TABLE}")
    create_if_missing(path, source.columns, keys=source.primary_keys, description="")
    types = {name: column.type for name, column in source.columns.items()}
    write_deltalake(path, to_arrow(frame, types, TABLE), mode="append")


@pytest.fixture
def opened(workspace: Workspace, monkeypatch) -> Workspace:  # noqa: F811
    """The workspace that commands open."""
    monkeypatch.setattr(Workspace, "open", classmethod(lambda *_: workspace))
    return workspace


def test_a_proposed_suite_passes_its_data_fails_corrupted_data_and_validates(opened):
    fill(opened, orders())
    file = opened.project(PROJECT).folder / "expectations/orders.yaml"
    done = CliRunner().invoke(app, ["suite", "propose", PROJECT, TABLE, "--force"])
    assert done.exit_code == 0, done.output
    found = validate_root(opened.root, "dev")
    assert not [fault for fault in found.faults if "expectations" in fault.file]
    columns = opened.project(PROJECT).spec.sources[TABLE].columns

    def verdict(frame: pd.DataFrame):
        return validate_batch(frame, load_suite(file), ["order_id"], TABLE, columns).verdict

    assert verdict(orders()).outcome is Outcome.PASS
    for column, value, failed in (
        ("amount", 900.0, "expect_column_values_to_be_between(amount)"),
        ("amount", -90.0, "expect_column_values_to_be_between(amount)"),
        ("shop", "z", "expect_column_values_to_be_in_set(shop)"),
        ("shop", None, "expect_column_values_to_not_be_null(shop)"),
        ("known_at", pd.NaT, "expect_column_values_to_not_be_null(known_at)"),
    ):
        broken = orders()
        broken.loc[3, column] = value
        said = [check.name for check in verdict(broken).checks if check.outcome is Outcome.WARN]
        assert said == [failed]
    assert not verdict(pd.concat([orders(), orders().head(1)])).passed


def test_every_number_says_where_it_comes_from(workspace):  # noqa: F811
    fill(workspace, orders())
    text = propose_suite(workspace, PROJECT, TABLE)
    lines = text.splitlines()
    items = [number for number, line in enumerate(lines) if line.startswith("  - type:")]
    assert len(items) == 5
    assert all(lines[number - 1].startswith("  # ") for number in items)
    assert "# the 3 values of 400 rows" in text
    assert "value_set: [a, b, 'no']" in text
    assert "version 1, 400 rows" in text
    assert "order_id int, shop string" in text


def test_a_file_is_not_overwritten_and_a_table_without_rows_is_refused(opened, tmp_path: Path):
    fill(opened, orders(0))
    with pytest.raises(TableError, match=r"shop\.orders has no rows"):
        propose_suite(opened, PROJECT, TABLE)
    fill(opened, orders())
    file = opened.project(PROJECT).folder / "expectations/orders.yaml"
    before = file.read_text()
    done = CliRunner().invoke(app, ["suite", "propose", PROJECT, TABLE])
    assert done.exit_code == 1
    assert file.read_text() == before
    other = tmp_path / "other/suite.yaml"
    assert CliRunner().invoke(app, ["suite", "propose", PROJECT, TABLE, "--output", str(other)]).exit_code == 0
    assert load_suite(other).history is not None
