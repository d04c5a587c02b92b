"""Monitoring on real Delta tables, with a real Spark and a real MLflow registry."""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import NothingToDo
from penstock.monitoring.metric_rows import Measurement
from penstock.monitoring.monitor import (
    WindowReference,
    ingest_logs,
    measure_drift,
    measure_infrastructure,
    measure_quality,
    publish,
)
from tests.integration.watched_shop import FIRST, JUNE, MAY, ROWS, Shop, alerts_of, calm, promoted, shop

__all__ = ["calm", "promoted", "shop"]


def same(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> None:
    for name, frame in before.items():
        pd.testing.assert_frame_equal(frame, after[name], obj=name)


def test_a_calm_month_gives_figures_and_no_alert(calm: Shop):
    report = calm.monitor(MAY)
    assert report.alerts == []
    assert (report.rows, report.labelled_rows, report.baseline_versions) == (ROWS, ROWS, [1])
    assert report.window == ("2020-05-01T00:00:00Z", "2020-06-01T00:00:00Z")
    table = calm.table("monitoring_metrics")
    assert set(table["kind"]) == {"feature_drift", "missing", "prediction_drift", "quality", "volume", "freshness"}
    figures = {(row.kind, row.column, row.metric): row for row in table.itertuples()}
    assert figures["quality", "", "label_coverage"].value == 1.0
    log_loss = figures["quality", "", "log_loss"]
    assert log_loss.baseline == 0.62
    assert log_loss.threshold == pytest.approx(0.67)
    assert figures["quality", "", "mean_gap"].value < 0.05
    assert figures["freshness", "shop_daily", "age_hours"].threshold == 72
    assert figures["volume", "", "rows"].value == ROWS
    assert set(table["model"]) == {"comes_back"}
    assert calm.table("alerts").empty


def test_figures_equal_an_independent_computation(calm: Shop):
    calm.monitor(MAY)
    predictions, labels = calm.table("comes_back_predictions"), calm.table("returns")
    joined = predictions.merge(labels, on=["shop", "order_id"])
    late = (joined["items_back"] > 0).to_numpy(dtype=float)
    expected = -np.mean(late * np.log(joined["prediction"]) + (1 - late) * np.log(1 - joined["prediction"]))
    table = calm.table("monitoring_metrics").set_index(["kind", "column", "metric"])["value"]
    assert table["quality", "", "log_loss"] == pytest.approx(expected, rel=1e-9)
    assert table["prediction_drift", "", "mean"] == pytest.approx(predictions["prediction"].mean(), rel=1e-9)


def test_drift_bad_quality_and_missing_values_are_alerts_with_a_message(promoted: Shop):
    drifted = promoted.orders(FIRST, MAY, shift=15)
    drifted.loc[::3, "shop_orders"] = np.nan
    promoted.label(promoted.score(drifted, MAY), MAY, flipped=True)
    report = promoted.monitor(MAY)
    assert alerts_of(report) == {
        ("feature_drift", "amount", "psi"),
        ("missing", "shop_orders", "missing_share"),
        ("prediction_drift", "", "psi"),
        ("quality", "", "log_loss"),
        ("quality", "", "mean_gap"),
    }
    messages = promoted.table("alerts").set_index(["kind", "column"])["message"]
    assert (
        "shop_orders is missing in 33.4% of the predictions, 0.0% in training"
        in messages["missing", "shop_orders"].item()
    )


def test_a_window_starts_where_the_last_one_ended(calm: Shop):
    calm.monitor(MAY)
    calm.label(calm.score(calm.orders(MAY, JUNE), JUNE), JUNE)
    report = calm.monitor(JUNE)
    assert report.window == ("2020-06-01T00:00:00Z", "2020-07-01T00:00:00Z")
    volume = calm.table("monitoring_metrics").query("kind == 'volume' and metric == 'rows'")
    assert volume["rows"].tolist() == [ROWS, ROWS]
    per_day = [row for row in report.metrics if row.metric == "rows_per_day"]
    assert per_day[0].baseline == pytest.approx(ROWS / 31)


def test_monitoring_that_runs_ahead_of_inference_leaves_nothing_out(calm: Shop):
    assert calm.monitor(MAY + timedelta(days=10)).window[1] == "2020-06-01T00:00:00Z"
    calm.score(calm.orders(MAY, JUNE), JUNE)
    assert calm.monitor(JUNE).rows == ROWS


def test_what_became_available_after_as_of_is_not_read(calm: Shop):
    calm.label(calm.score(calm.orders(MAY, JUNE), JUNE), JUNE)
    report = calm.monitor(MAY + timedelta(days=1))
    assert (report.rows, report.labelled_rows) == (ROWS, ROWS)


def test_again_is_the_same(calm: Shop):
    calm.monitor(MAY)
    before = calm.state()
    report = calm.monitor(MAY)
    same(before, calm.state())
    assert report.rows == ROWS


@pytest.mark.parametrize("killed_after", ["alerts", "metrics"])
def test_a_run_that_was_killed_between_its_writes_ends_the_same(promoted: Shop, monkeypatch, killed_after: str):
    import penstock.lakehouse.small_tables as small_tables

    promoted.score(promoted.orders(FIRST, MAY, shift=15), MAY)
    write, done = small_tables.write_system_rows, []

    def killed(path, table, rows, commit):
        write(path, table, rows, commit)
        done.append(table)
        if len(done) == (1 if killed_after == "alerts" else 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(small_tables, "write_system_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            promoted.monitor(MAY)
    # the window grows before the run comes again
    promoted.score(promoted.orders(MAY, JUNE, shift=15), JUNE)
    promoted.monitor(JUNE)
    ends = {"alerts": [JUNE], "metrics": [MAY, JUNE]}[killed_after]
    for frame in promoted.state().values():
        assert sorted(set(frame["window_end"])) == ends


def test_late_labels_are_judged_again_with_the_window_that_they_belong_to(promoted: Shop):
    may = promoted.score(promoted.orders(FIRST, MAY), MAY)
    promoted.label(may.iloc[:100], MAY)
    report = promoted.monitor(MAY)
    assert report.labelled_rows == 100
    assert any("fewer than minimum_rows 200" in note for note in report.notes)
    promoted.label(may.iloc[100:], MAY + timedelta(days=5), flipped=True)
    promoted.score(promoted.orders(MAY, JUNE), JUNE)
    report = promoted.monitor(JUNE)
    assert report.labelled_rows == 0
    quality = promoted.table("monitoring_metrics").query("kind == 'quality' and metric == 'label_coverage'")
    assert quality.sort_values("window_end")["labelled_rows"].tolist() == [ROWS, 0]
    alerts = promoted.table("alerts").query("kind == 'quality'")
    assert set(alerts["window_end"]) == {MAY}


def test_labels_alone_bring_the_last_window_back(promoted: Shop):
    may = promoted.score(promoted.orders(FIRST, MAY), MAY)
    assert promoted.monitor(MAY).labelled_rows == 0
    promoted.label(may.iloc[:100], MAY + timedelta(days=1), flipped=True)  # corrected by the next
    promoted.label(may, MAY + timedelta(days=2))
    report = promoted.monitor(MAY + timedelta(days=3))
    assert (report.window[1], report.labelled_rows) == ("2020-06-01T00:00:00Z", ROWS)
    with pytest.raises(NothingToDo, match="nothing new since"):
        promoted.monitor(MAY + timedelta(days=4))


def test_an_alert_that_no_longer_holds_disappears(promoted: Shop):
    promoted.score(promoted.orders(FIRST, MAY, shift=15), MAY)
    assert ("feature_drift", "amount", "psi") in alerts_of(promoted.monitor(MAY))
    promoted.change("monitoring", "features", "threshold", value=50.0)
    promoted.monitor(MAY)
    assert set(promoted.table("alerts")["kind"]) == {"prediction_drift"}
    metrics = promoted.table("monitoring_metrics").query("kind == 'feature_drift' and column == 'amount'")
    assert metrics[["threshold", "alert"]].to_numpy().tolist() == [[50.0, False]]


def test_another_method_replaces_the_figures_of_the_old_one(calm: Shop):
    calm.monitor(MAY)
    calm.change("monitoring", "features", value={"method": "wasserstein", "threshold": 0.3})
    report = calm.monitor(MAY)
    drift = calm.table("monitoring_metrics").query("kind == 'feature_drift'")
    assert set(zip(drift["column"], drift["metric"], strict=True)) == {
        ("amount", "wasserstein"),
        ("shop_orders", "wasserstein"),
    }
    assert any("channel" in note and "needs numbers" in note for note in report.notes)


def test_a_metric_of_the_projects_own_that_fails_is_a_note_and_the_others_are_watched(calm: Shop):
    metrics = calm.workspace.project(calm.project).folder / "metrics.py"
    metrics.write_text("def mean_gap(label, prediction):\n    return label.gap\n")
    report = calm.monitor(MAY)
    (note,) = (note for note in report.notes if "mean_gap is left out" in note)
    assert f"{metrics}:2: the metric 'mean_gap' failed on {ROWS} rows: AttributeError" in note
    assert {row.metric for row in report.metrics if row.kind == "quality"} >= {"log_loss", "label_coverage"}


def test_few_rows_give_figures_without_alerts_and_a_reason(promoted: Shop):
    promoted.score(promoted.orders(FIRST, MAY, rows=150, shift=30), MAY)
    report = promoted.monitor(MAY)
    assert report.alerts == []
    assert any("150 predictions are fewer than minimum_rows 200" in note for note in report.notes)
    assert any(row.kind == "feature_drift" and row.value > 1 for row in report.metrics)


def test_two_versions_in_a_window_are_held_against_their_own_baselines(calm: Shop):
    calm.monitor(MAY)
    calm.score(calm.orders(MAY, MAY + timedelta(days=10), shift=15), MAY + timedelta(days=10), version=1)
    assert calm.register(calm.orders(FIRST, MAY, 5000, shift=15), MAY) == 2
    calm.score(calm.orders(MAY + timedelta(days=10), JUNE, shift=15), JUNE, version=2)
    report = calm.monitor(JUNE)
    assert report.baseline_versions == [1, 2]
    drifted = {row.model_version for row in report.alerts if row.kind == "feature_drift"}
    assert drifted == {1}


def test_without_predictions_there_is_nothing_to_do(shop: Shop):
    with pytest.raises(NothingToDo, match="nothing was predicted yet"):
        shop.monitor(MAY)


def test_an_earlier_as_of_writes_nothing_and_says_so(calm: Shop):
    calm.monitor(MAY)
    before = calm.state()
    with pytest.raises(NothingToDo, match="is monitored as of 2020-06-01T00:00:00Z"):
        calm.monitor(MAY - timedelta(days=1))
    same(before, calm.state())


def test_a_version_without_a_profile_is_named_and_its_quality_is_measured_all_the_same(shop: Shop):
    shop.register(shop.orders(FIRST, MAY), profile=False)
    shop.score(shop.orders(FIRST, MAY), MAY)
    report = shop.monitor(MAY)
    assert any("no drift is measured" in note and "version 1: its MLflow run has no profile.json" in note
               for note in report.notes)  # fmt: skip
    assert "quality" in {row.kind for row in report.metrics}


def test_the_steps_travel_as_small_json(calm: Shop):
    workspace = calm.workspace

    def travel(value):
        text = json.dumps(asdict(value), allow_nan=False)
        assert len(text) < 30_000
        return json.loads(text)

    reference = WindowReference.from_dict(travel(ingest_logs(workspace, calm.project, calm.model, MAY)))
    steps = (measure_drift, measure_quality, measure_infrastructure)
    measured = [Measurement.from_dict(travel(step(workspace, reference))) for step in steps]
    travel(publish(workspace, reference, measured))
    apart = calm.state()
    calm.monitor(MAY)
    same(apart, calm.state())


def test_the_report_is_one_file_with_charts(calm: Shop):
    calm.monitor(MAY)
    calm.score(calm.orders(MAY, JUNE, shift=15), JUNE)
    path = Path(calm.monitor(JUNE).report)
    root = Path(calm.workspace.environment.lakehouse.root)
    assert path == root / calm.project / "_reports" / calm.model / "monitoring" / "2020-07-01T000000Z.html"
    page = path.read_text()
    assert page.count("<svg") >= 4
    assert "the prediction drifted" in page
    assert "src=" not in page
    assert "<script" not in page
