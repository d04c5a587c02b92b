"""A candidate against production and the heuristic: what is measured, what decides, what is kept."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from penstock.clock import now, to_text, write_replay_clock
from penstock.errors import GateError, ServiceError
from penstock.gates import Check, Outcome, Verdict
from penstock.lakehouse.small_tables import read_arrow
from penstock.registry.audit import AuditLog
from penstock.registry.comparison import compare_with_production
from penstock.registry.deployments import transition
from penstock.registry.methods import Pending
from penstock.registry.promotion import (
    first_promotion_as_of,
    follow_up,
    production_since,
    promised_metrics,
    promote,
)
from penstock.registry.stages import Stage, current_production
from penstock.workspace import SessionKey
from tests.integration.plant import FIRST, MODEL, SECOND, Plant, checks


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
        "reference": "pass", "labelled rows": "pass", "better than heuristic": "pass", "bound on roc_auc": "pass",
        "first version": "pass", "picture": "pass",
    }  # fmt: skip
    assert current_production(*plant.about) == first
    comparison = plant.decide(second)
    assert comparison.passed, comparison.to_markdown()
    assert checks(comparison) == {
        "reference": "pass", "labelled rows": "pass", "better than heuristic": "pass",
        "not worse than production": "pass", "picture": "pass",
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


def too_few_features(folder: Path) -> None:
    """Its feature_spec.json names fewer features than the model was fitted on: LightGBM raises when it is asked."""
    edit_feature_spec(folder, lambda spec: spec["features"].pop())


def edit_feature_spec(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "extra_files" / "feature_spec.json"
    spec = json.loads(file.read_text())
    change(spec)
    file.write_text(json.dumps(spec))


def test_a_model_that_raises_while_it_predicts_is_a_verdict_on_either_side(plant, tmp_path):
    broken, second = plant.add_tampered(too_few_features, tmp_path), plant.add("second")
    verdict = compare_with_production(*plant.about, broken, SECOND)
    assert checks(verdict) == {"reference": "pass", "candidate scores": "fail"}
    assert "version 1: Booster failed on" in verdict.reason
    assert "number of features" in verdict.reason
    rows = plant.comparisons()
    assert set(rows.reference) == {"heuristic"}, "there was no production to hold it against"
    assert set(rows.verdict) == {"fail"}
    assert rows.reason.str.contains("Booster failed on").all()
    promote(*plant.about, broken, "a test", "because", {}, SECOND)
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert checks(verdict)["production scores"] == "fail"
    assert "version 1, cannot be asked any more: Booster failed on" in verdict.reason
    row = plant.comparisons().query(f"candidate_version == {second} and reference == 'production'").iloc[0]
    assert (row.verdict, row.production_version) == ("fail", broken)


LIVE = '''
from datetime import timedelta

from penstock.gates import Check, Outcome
from penstock.registry.methods import Finding, Pending


def two_days(contest):
    """Waits for two days of outcomes after the promotion was asked for, and is content with whatever they are."""
    ready = contest.as_of + timedelta(days=2)
    if contest.asked_at < ready:
        return Pending("two days of outcomes are wanted", until=ready, ask_again_after=timedelta(minutes=7))
    return Finding((Check("two days", Outcome.PASS, "watched until the end"),))


def confused(contest):
    return {"verdict": "pass"}
'''


@pytest.fixture
def patient(make_plant, tmp_path) -> tuple[Plant, Callable[[datetime], None]]:
    """A plant whose comparison waits for two days, and what moves its clock."""
    clock = tmp_path / "clock"
    plant = make_plant(replay_clock=str(clock))
    (plant.workspace.project(plant.project).folder / "models" / "live.py").write_text(LIVE)
    methods = ["heuristic", "holdout", "models.live.two_days"]
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(methods=methods))
    return plant, lambda moment: write_replay_clock(str(clock), moment)


def test_a_method_that_needs_some_windows_is_asked_again_until_it_answers(patient):
    plant, move_clock = patient
    second = plant.add("second")
    move_clock(SECOND)
    answer = compare_with_production(*plant.about, second, SECOND)
    assert isinstance(answer, Pending)
    assert answer.until == SECOND + timedelta(days=2)
    assert answer.sentence == f"models.live.two_days: two days of outcomes are wanted (until {to_text(answer.until)})"
    rows = plant.comparisons().query("method == 'models.live.two_days'")
    assert rows.verdict.tolist() == ["pending"]
    assert "two days of outcomes" in rows.reason.iloc[0]
    move_clock(SECOND + timedelta(days=2))
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert verdict.passed
    assert checks(verdict)["two days"] == "pass"


def test_a_loser_is_told_at_once_however_long_another_method_would_wait(patient):
    plant, move_clock = patient
    first, second = plant.add("first"), plant.add("second")
    promote(*plant.about, second, "a test", "because", {}, SECOND)
    move_clock(SECOND)
    assert not compare_with_production(*plant.about, first, SECOND).passed


def test_the_task_waits_deferred_and_runs_again_from_its_beginning(patient, stack):
    from airflow.sdk.exceptions import TaskDeferred

    from penstock.operators.promotion import CompareWithProductionOperator

    plant, move_clock = patient
    second, pushed = plant.add("second"), {}
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1,
                         xcom_push=lambda key, value: pushed.update({key: value}))  # fmt: skip
    context = {"ti": ti, "params": {"model_version": second, "as_of": to_text(SECOND)}}

    class Here(CompareWithProductionOperator):
        """In the test's own lakehouse."""

        def workspace(self, context):
            key = SessionKey(f"{plant.project}/t", 1)
            return plant.workspace.with_(session_key=key)

    task = Here(task_id="t", project=plant.project, model=MODEL, root=plant.workspace.root, as_of=to_text(SECOND))
    move_clock(SECOND)
    with pytest.raises(TaskDeferred) as waiting:
        task.execute(context)
    assert timedelta(minutes=6) < waiting.value.trigger.moment - now() <= timedelta(minutes=7)
    assert "shown" not in pushed
    move_clock(SECOND + timedelta(days=3))
    answer = getattr(task, waiting.value.method_name)(context, event=None)
    assert answer["outcome"] == "pass"
    assert "shown" in pushed


def test_one_that_waits_for_an_answer_ends_when_a_newer_one_has_taken_its_place(patient, monkeypatch):
    from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

    from penstock.operators.candidates import most_at_once
    from penstock.operators.promotion import AutomaticApprovalOperator, CompareWithProductionOperator

    plant, move_clock = patient
    older, newer, pushed = plant.add("second"), plant.add("second"), {}
    own = SimpleNamespace(environment=plant.workspace.environment,
                          model_spec=plant.workspace.project(plant.project).model(MODEL))  # fmt: skip
    assert most_at_once(own) > 1, "its run holds up no other"
    move_clock(SECOND)
    for version in (older, newer):
        transition(*plant.about, version, Stage.STAGING, "penstock (automatic)", "all checks passed", {}, SECOND)
    about = {"project": plant.project, "model": MODEL, "root": plant.workspace.root, "model_version": older}
    context = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))}
    before = plant.state["deployments"]
    with pytest.raises(DownstreamTasksSkipped):
        CompareWithProductionOperator(task_id="c", **about).run(plant.workspace, SECOND, context)
    assert f"version {older} is in Archived already" in pushed["stopped"]
    assert f"displaced in Staging by version {newer}" in pushed["stopped"]
    with pytest.raises(AirflowSkipException, match=f"displaced in Staging by version {newer}.* with a later as_of"):
        AutomaticApprovalOperator(task_id="a", shown="", **about).run(plant.workspace, SECOND, context)
    assert plant.state["deployments"] == before


def test_a_service_that_does_not_answer_a_method_is_named_as_that(plant):
    text = "from penstock.errors import ServiceError\n\ndef down(contest):\n    raise ServiceError('Spark is away')\n"
    (plant.workspace.project(plant.project).folder / "models" / "down.py").write_text(text)
    methods = ["heuristic", "models.down.down"]
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(methods=methods))
    with pytest.raises(ServiceError, match="Spark is away"):
        compare_with_production(*plant.about, plant.add("second"), SECOND)


def test_a_method_that_answers_nonsense_is_named(plant):
    (plant.workspace.project(plant.project).folder / "models" / "live.py").write_text(LIVE)
    methods = ["heuristic", "models.live.confused"]
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(methods=methods))
    with pytest.raises(GateError, match=r"models\.live\.confused answered dict: return a Finding or Pending"):
        compare_with_production(*plant.about, plant.add("second"), SECOND)


def test_slices_are_compared_those_without_labels_or_rows_are_named_and_a_margin_blocks(plant):
    first, second = plant.add("first"), plant.add("second")
    promote(*plant.about, first, "a test", "because", {}, FIRST)

    def declare(spec: dict, minimum: int = 50, **slices: object) -> None:
        model = spec["models"][MODEL]
        model.update(evaluation={"slices": ["kind", "load"]})
        model["label"].update(expression="CASE WHEN job % 3 = 0 THEN NULL ELSE broke END")
        model["promotion"].update(slices={"minimum_rows": minimum, **slices})

    plant.edit(declare)
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert checks(verdict)["slices"] == "pass", verdict.to_markdown()
    rows = plant.comparisons().query("slice != 'all'")
    assert {"kind=new", "kind=old"} < set(rows.slice)
    assert rows.lower.notna().all()
    plant.edit(lambda spec: declare(spec, minimum=10_000))
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert "none of 0 slices blocks; 6 not compared: kind=new (" in check(verdict, "slices").detail
    assert verdict.passed
    back = plant.add("first")
    promote(*plant.about, second, "a test", "because", {}, SECOND)
    plant.edit(lambda spec: declare(spec, margin=0.1))
    verdict = compare_with_production(*plant.about, back, SECOND)
    assert checks(verdict)["slices"] == "fail"
    assert "shown to be worse than their margin: kind=new (worse by" in verdict.reason


def test_what_the_rule_asks_of_the_entity_is_read_and_slices_of_which_no_row_has_a_label_are_named(plant):
    """`shift` is a column of the entity that no version was trained on; the jobs of shift 0 never get a label."""
    second = plant.add("second")
    promote(*plant.about, plant.add("first"), "a test", "because", {}, FIRST)

    def declare(spec: dict, **slices: object) -> None:
        model, jobs = spec["models"][MODEL], spec["sources"]["jobs"]
        model.update(evaluation={"slices": ["kind", "shift", "machine"]})
        model["entity"].update(table="old_jobs", features=["kind", "load", "shift"])
        model["label"].update(expression="CASE WHEN job % 5 = 0 THEN NULL ELSE broke END")
        model["promotion"].update(resampling="shift", slices={"minimum_rows": 50, **slices})
        spec["sources"]["old_jobs"] = {**jobs, "columns": {**jobs["columns"], "shift": "bigint"}}

    plant.edit(declare)
    path = plant.workspace.addresses.writable(f"{plant.project}.old_jobs")
    jobs = read_arrow(plant.workspace.addresses.readable(f"{plant.project}.jobs"), filters=[("kind", "=", "old")])
    write_deltalake(path, jobs.append_column("shift", pa.array([job % 5 for job in jobs["job"].to_pylist()])))
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert check(verdict, "not worse than production").evidence["unit"] == "shift"
    assert check(verdict, "not worse than production").evidence["units"] == 4
    named = check(verdict, "slices").evidence["not_compared"]
    assert {name: named.get(name) for name in ("kind=new", "shift=0")} == dict.fromkeys(
        ("kind=new", "shift=0"), "no labelled rows"
    )
    row = plant.comparisons().query("slice == 'kind=new'").iloc[0]
    assert (row.verdict, row.reason, row.rows) == ("info", "not compared: no labelled rows", 0)
    assert {"shift=1", "machine=a"} < set(plant.comparisons().slice)

    margins = {"shift=0": 0.1, "shift=night": 0.1}
    plant.edit(lambda spec: declare(spec, margins=margins, blocks="not_shown_safe"))
    verdict = compare_with_production(*plant.about, second, SECOND)
    assert checks(verdict)["slices"] == "fail"
    assert (
        "not shown to be within their margin: shift=0 (no labelled rows), shift=night (no such slice of these rows)"
    ) in verdict.reason
    row = plant.comparisons().query("slice == 'shift=0'").iloc[0]
    assert (row.verdict, row.required_better_by) == ("fail", -0.1)


def test_picture_and_text_are_stored_with_the_candidates_run_and_shown_in_the_request(plant):
    from penstock.registry.approval import request_text

    first, second = plant.add("first"), plant.add("second")
    promote(*plant.about, first, "a test", "because", {}, FIRST)
    verdict = compare_with_production(*plant.about, second, SECOND)
    found = plant.registered.version(second)
    stem = "comparison/20200420T000000Z"
    picture = check(verdict, "picture")
    assert picture.evidence == {"run_id": plant.registered.run_id(found), "path": f"{stem}.svg"}
    svg, text = (
        mlflow.artifacts.load_text(f"runs:/{picture.evidence['run_id']}/{stem}.{kind}") for kind in ("svg", "md")
    )
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "log_loss against version 1" in svg
    assert "log_loss against production" in text
    request = request_text(*plant.about, second, {}, verdict.to_dict(), {})
    assert "| log_loss against production |" in request
    assert "The candidate must be\n\n- shown to be" in request
    assert compare_with_production(*plant.about, second, SECOND) == verdict
