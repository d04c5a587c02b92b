"""What a decision is held to: a change of anything by which versions are judged shows, one of the rest does not."""

from pathlib import Path

import pytest

from penstock.registry.deciding import DECIDING, fingerprint
from penstock.spec.project import Evaluation, Model, Training
from penstock.workspace import Workspace
from tests.unit.spec_project import Root, write_root

_NOT_OF_A_MODEL = {"description", "owner", "limits", "tags", "inference", "monitoring", "retraining"}
_NOT_OF_TRAINING = {
    "function", "flavor", "window", "tune", "hold_out", "parameters", "search", "best", "trials", "folds", "pruning",
    "sampling", "seed", "minimum_rows", "requirements",
}  # fmt: skip
_NOT_OF_EVALUATION = {"minimum_slice_rows", "confidence", "bootstrap_repeats", "resample_by", "costs"}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return write_root(tmp_path)


def taken(root: Root) -> str:
    return fingerprint(Workspace.open("dev", root.path), "shop", "comes_back")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project.yaml", "      slices: [order_id]", "      slices: [amount]"),
        ("project.yaml", "expression: share > 0.5", "expression: share > 0.4"),
        ("project.yaml", "features: [amount, items]", "features: [amount]"),
        ("project.yaml", "roc_auc: {min: 0.6}", "roc_auc: {min: 0.5}"),
        ("project.yaml", "lower_is_better: [cost]", "as_known: true"),
        ("project.yaml", "[customer, order_id]\n    available_at: known_at\n    columns: {customer: string, order",
         "[customer, order_id]\n    available_at: seen_at\n    columns: {seen_at: timestamp, customer: string, order"),
        ("models/back.py", "price=1.0", "price=2.0"),
        ("features/customer_daily.sql", "avg(amount)", "median(amount)"),
        ("features/returns.py", "...", "pass"),
    ],
    ids=["slices", "label", "features", "bounds", "as_known", "available_at", "code of a metric", "SQL of a feature",
         "code of a feature"],
)  # fmt: skip
def test_what_decides_shows(root: Root, file: str, old: str, new: str) -> None:
    before = taken(root)
    assert taken(root) == before
    root.edit(file, old, new)
    assert taken(root) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project.yaml", "Will an order come back?", "Does an order come back?"),
        ("project.yaml", "num_leaves: {int: [7, 31], log: true}", "num_leaves: {int: [7, 63], log: true}"),
        ("project.yaml", "false_negative: 4", "false_negative: 5"),
        ("project.yaml", "tolerance: 0.1", "tolerance: 0.2"),
        ("sources.py", "...", "pass"),
        ("features/customer_daily.sql", "-- a customer's day", "-- one day"),
        ("project.yaml", "      mean_amount: double", "      mean_amount: double\n      most: double"),
    ],
    ids=["words", "search", "costs", "monitoring", "code of a source", "comment of a feature", "another feature"],
)  # fmt: skip
def test_what_does_not_decide_leaves_a_decision_standing(root: Root, file: str, old: str, new: str) -> None:
    before = taken(root)
    root.edit(file, old, new)
    assert taken(root) == before


def test_every_field_of_a_declaration_is_one_or_the_other() -> None:
    """A new field fails here, until somebody has asked whether versions are judged by it."""
    assert set(Model.model_fields) == set(DECIDING) | _NOT_OF_A_MODEL
    assert set(Training.model_fields) == DECIDING["training"] | _NOT_OF_TRAINING
    assert set(Evaluation.model_fields) == DECIDING["evaluation"] | _NOT_OF_EVALUATION
