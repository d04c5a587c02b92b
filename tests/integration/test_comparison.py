"""A candidate against production and the heuristic: what is measured, what decides, what is kept."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from penstock.clock import to_text
from penstock.gates import Check, Outcome, Verdict
from penstock.registry.audit import AuditLog
from penstock.registry.comparison import compare_with_production
from penstock.registry.promotion import (
    first_promotion_as_of,
    follow_up,
    production_since,
    promised_metrics,
    promote,
)
from penstock.registry.stages import current_production
from tests.integration.plant import FIRST, MODEL, SECOND, checks


def check(verdict: Verdict, name: str) -> Check:
    return next(found for found in verdict.checks if found.name == name)


def test_the_first_version_beats_the_heuristic_and_the_second_beats_the_first(plant):
    assert first_promotion_as_of(*plant.about) is None
    assert production_since(*plant.about) is None
    first, second = plant.add("first"), plant.add("second")
    compliance, comparison = plant.through_gates(first, FIRST)
    assert compliance.passed, compliance.to_markdown()
    assert comparison.passed, comparison.to_markdown()
    assert checks(comparison) == {
        "labelled rows": "pass", "better than heuristic": "pass", "bound on roc_auc": "pass", "first version": "pass",
    }  # fmt: skip
    assert current_production(*plant.about) == first
    comparison = plant.decide(second)
    assert comparison.passed, comparison.to_markdown()
    assert checks(comparison) == {
        "labelled rows": "pass", "better than heuristic": "pass", "not worse than production": "pass",
    }  # fmt: skip
    assert "version 1" in comparison.reason
    assert plant.stages() == ["Archived", "Production"]
    assert first_promotion_as_of(*plant.about) == FIRST
    assert production_since(*plant.about) == SECOND
    promised = promised_metrics(*plant.about, second)
    run_metrics = plant.registered.run_metrics(plant.registered.version(second))
    assert promised
    names = ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy")
    assert promised == {name: run_metrics[name] for name in names}
    done = follow_up(*plant.about, second)
    assert (done.production, done.former, done.since) == (second, first, to_text(SECOND))
    assert done.promised_metrics == promised
    rows = plant.comparisons()
    decisive = rows.query(f"candidate_version == {second} and metric == 'log_loss' and method == 'holdout'").iloc[0]
    assert (decisive.reference, decisive.verdict, decisive.production_version) == ("production", "pass", first)
    assert decisive.lower < decisive.better_by < decisive.upper
    assert (decisive.unit, decisive.units, decisive.repeats, decisive.seed) == ("row", decisive.rows, 1000, 7)
    assert set(json.loads(decisive.inputs)) == {f"{plant.project}.{t}" for t in ("jobs", "outcomes", "machine_daily")}
    assert decisive.better_by == pytest.approx(decisive.reference_value - decisive.candidate_value)
    assert decisive.window_start == pd.Timestamp(SECOND - timedelta(days=7))
    assert set(rows[rows.candidate_version == first].reference) == {"heuristic", "bound_min"}


def test_the_metrics_are_those_of_an_independent_computation(plant):
    import mlflow
    from sklearn.metrics import log_loss

    first, second = plant.add("first"), plant.add("second")
    plant.decide(first, FIRST)
    as_of = SECOND + timedelta(days=3)
    compare_with_production(*plant.about, second, as_of)
    data = plant.trained.data
    rows = data["jobs"].merge(data["outcomes"], on=["machine", "job"], suffixes=("", "_y"))
    rows = rows[(rows.start > SECOND - timedelta(days=7)) & (rows.known_at_y <= as_of)].sort_values("start")
    heat = data["machine_daily"].sort_values("event_time")
    rows = pd.merge_asof(rows, heat, left_on="start", right_on="event_time", by="machine")
    rows["kind"] = pd.Categorical(rows.kind, categories=["new", "old"])
    found = plant.comparisons()
    row = found.query(f"metric == 'log_loss' and candidate_version == {second} and method == 'holdout'").iloc[0]
    assert row.rows == len(rows)
    for name, value in (("first", row.reference_value), ("second", row.candidate_value)):
        booster = mlflow.lightgbm.load_model(plant.trained.uri(name))
        expected = log_loss(rows.broke, booster.predict(rows[["kind", "load", "heat"]]))
        assert value == pytest.approx(expected, abs=1e-9)


def test_a_worse_candidate_is_archived_with_the_figures(plant):
    second, first = plant.add("second"), plant.add("first")
    plant.decide(second)
    comparison = plant.decide(first)
    assert not comparison.passed
    assert "worse by" in comparison.reason
    assert plant.stages() == ["Production", "Archived"]
    row = AuditLog(*plant.about).read().latest(first)
    assert (row.decided_by, row.reason) == ("penstock (automatic)", comparison.reason)
    assert row.evidence["comparison"]["checks"][1]["evidence"]["rows"] > 100


def test_a_threshold_in_the_project_flips_the_decision_on_the_same_data(plant):
    first, second = plant.add("first"), plant.add("second")
    plant.decide(first, FIRST)
    lower = check(compare_with_production(*plant.about, second, SECOND), "not worse than production").evidence["lower"]
    assert lower > 0.01
    for required, passed in ((lower + 0.001, False), (lower - 0.001, True)):
        rule = {"rule": "superior", "not_worse_by": 0.0, "better_by": float(required)}
        plant.edit(lambda spec, rule=rule: spec["models"][MODEL]["promotion"].update(rule))
        verdict = compare_with_production(*plant.about, second, SECOND)
        assert verdict.passed is passed, verdict.to_markdown()


def test_an_equal_candidate_is_not_worse_and_not_better(plant):
    one, two = plant.add("second"), plant.add("second")
    plant.decide(one)
    assert compare_with_production(*plant.about, two, SECOND).passed
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(rule="superior", not_worse_by=0.0))
    verdict = compare_with_production(*plant.about, two, SECOND)
    assert checks(verdict)["better than production"] == "fail"
    assert "no difference" in verdict.reason


def test_the_first_version_must_beat_the_projects_own_heuristic_and_hold_its_bounds(plant):
    first = plant.add("first")
    oracle = "def sure(features):\n    return features['load'].rank(pct=True) * 0.8 + 0.1\n"
    (plant.workspace.project(plant.project).folder / "models" / "rules.py").write_text(oracle)
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(heuristic="models.rules.sure", better_by=0.5))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert checks(verdict)["better than heuristic"] == "fail"
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(first_bounds={"roc_auc": {"min": 0.99}}))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert checks(verdict)["better than heuristic"] == "pass"
    assert "wanted at least 0.99" in verdict.reason
    assert set(plant.comparisons().verdict) == {"pass", "fail", "info"}


def test_too_few_labelled_rows(plant):
    first = plant.add("first")
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(minimum_rows=100_000))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert not verdict.passed
    assert "at least 100000 are wanted (promotion.minimum_rows)" in verdict.reason


def test_no_labelled_row_at_all(plant):
    second = plant.add("second")
    verdict = compare_with_production(*plant.about, second, SECOND - timedelta(days=7))
    assert checks(verdict)["labelled rows"] == "fail"
    assert "there are no labelled rows" in verdict.reason
    assert "run model_promotion for this version again with a later as_of" in verdict.reason
    assert plant.comparisons().iloc[0].rows == 0


def test_a_metric_that_the_rows_do_not_define(plant):
    first = plant.add("first")
    plant.edit(
        lambda spec: (
            spec["models"][MODEL]["promotion"].update(metric="roc_auc"),
            spec["models"][MODEL]["label"].update(expression="broke OR true"),
        )
    )
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert "roc_auc cannot be compared: all" in verdict.reason
    row = plant.comparisons().query("metric == 'roc_auc' and reference == 'heuristic'").iloc[0]
    assert row.verdict == "fail"
    assert pd.isna(row.candidate_value)


def test_each_version_predicts_with_its_own_features(plant):
    second, lean = plant.add("second"), plant.add("lean")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    plant.decide(second)
    verdict = compare_with_production(*plant.about, lean, SECOND)
    evidence = check(verdict, "not worse than production").evidence
    promised = {name: plant.trained.versions[name].run_id for name in ("second", "lean")}
    assert evidence["reference"] != evidence["candidate"]
    for version, side in ((second, "reference"), (lean, "candidate")):
        metrics = plant.registered.run_metrics(plant.registered.version(version))
        assert evidence[side] == pytest.approx(metrics["log_loss"], abs=1e-9), promised


def test_production_that_cannot_be_asked_any_more_gives_way_to_the_heuristic_only_where_that_is_declared(plant):
    second, lean = plant.add("second"), plant.add("lean")
    plant.decide(second)
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.project / "machine_daily")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    verdict = compare_with_production(*plant.about, lean, SECOND)
    assert checks(verdict)["production scores"] == "fail"
    assert "version 1, cannot be asked any more" in verdict.reason
    assert "promotion.if_production_fails: heuristic" in verdict.reason

    def declare(spec: dict) -> None:
        spec["models"][MODEL].update(lookups=[])
        spec["models"][MODEL]["promotion"].update(if_production_fails="heuristic")

    plant.edit(declare)
    verdict = compare_with_production(*plant.about, lean, SECOND)
    assert verdict.outcome is Outcome.WARN
    assert "lets the heuristic alone decide" in verdict.reason
    assert checks(verdict)["bound on roc_auc"] == "pass"
    promote(*plant.about, lean, "a test", "it works at least", verdict.to_dict(), SECOND)
    assert current_production(*plant.about) == lean
