"""The rule that a model card states is the one that is declared, in all of its parts."""

from pathlib import Path

import pytest
import yaml

from penstock.spec.loading import load_project
from penstock.spec.project import Model, Promotion
from penstock.training.declared_rule import rule_intro, rule_lines
from tests.unit.spec_project import write_root

ROOT = Path(__file__).parents[2]


@pytest.fixture
def declared(tmp_path):
    """A model whose promotion is declared like this."""
    model = load_project(write_root(tmp_path).path, "shop").model("comes_back")

    def declare(promotion: str, slices: tuple[str, ...] = ()) -> Model:
        rule = Promotion.model_validate({"metric": "log_loss", **yaml.safe_load(promotion)})
        evaluation = model.evaluation.model_copy(update={"slices": [*slices]})
        return model.model_copy(update={"promotion": rule, "evaluation": evaluation})

    return declare


@pytest.mark.parametrize(
    ("promotion", "lines"),
    [
        (
            "{}",
            ["shown to be better than the version in production (rule `superior`)",
             "shown to be better than the heuristic: the mean training label"],
        ),
        (
            "{better_by: 0.01, heuristic: models.rules.half, first_bounds: {roc_auc: {min: 0.6, max: 0.99}}}",
            ["shown to be better than the version in production by more than 0.01 (rule `superior`)",
             "shown to be better than the heuristic: `models.rules.half`",
             "as the first version, shown to be better than the heuristic by more than 0.01",
             "as the first version, of a `roc_auc` of at least 0.6 and at most 0.99"],
        ),
        (
            "{rule: non_inferior, not_worse_by: 0.015, guard_metrics: {roc_auc: 0.02}, if_production_fails: heuristic}",
            ["shown to be worse than the version in production by at most 0.015 (rule `non_inferior`)",
             "shown to be worse than it by at most 0.02 in `roc_auc` (a guard metric)",
             "held against the heuristic alone where the version in production cannot be asked any more",
             "better than the heuristic on these rows: the mean training label"],
        ),
        (
            "{methods: [heuristic, models.shadow.compare]}",
            ["compared with no version in production: `promotion.methods` leaves `holdout` out",
             "shown to be better than the heuristic: the mean training label",
             "let in by the project's own method `models.shadow.compare`"],
        ),
    ],
    ids=["superior", "by a margin", "non_inferior", "own methods"],
)  # fmt: skip
def test_each_demand_has_a_line(declared, promotion, lines):
    assert rule_lines(declared(promotion)) == lines


@pytest.mark.parametrize(
    ("slices", "line"),
    [
        ("{}", "compared on the slices of `origin`, `carrier`, too, which only warn (no margin is declared)"),
        (
            "{margin: 0.05}",
            "not shown to be beyond what it may be worse by on the slices of `origin`, `carrier`: 0.05 on each",
        ),
        (
            "{margins: {origin=JFK: 0.01}, blocks: not_shown_safe}",
            "shown to be within what it may be worse by on the slices of `origin`, `carrier`: 0.01 on `origin=JFK`, "
            "others only warn",
        ),
        (
            "{margin: 0.05, minimum_rows: 1000, blocks: not_shown_safe}",
            "shown to be within what it may be worse by on the slices of `origin`, `carrier`: 0.05 on each "
            "(not asked of slices with fewer than 1,000 labelled rows)",
        ),
    ],
)
def test_slices_have_their_margins(declared, slices, line):
    found = rule_lines(declared(f"{{slices: {slices}}}", ("origin", "carrier")))
    assert found[1] == line


def test_the_rows_and_the_error_rate_are_named(declared):
    text = rule_intro(declared("{minimum_rows: 1000, alpha: 0.1}").promotion)
    assert "by log_loss, on at least 1,000 labelled rows that neither" in text
    assert "allows an error of 10 %" in text


def test_the_reference_project_says_that_fresher_data_may_cost_a_little():
    late = load_project(ROOT, "flight_delays").model("late_arrival")
    assert rule_lines(late)[0].startswith("shown to be worse than the version in production by at most 0.015")
    assert not any("by at least 0" in line for line in rule_lines(late))
