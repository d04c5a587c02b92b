"""The decision to retrain: what monitoring found, held against the guards, on real tables and a real registry."""

import json
from datetime import timedelta

import pandas as pd
import pytest

from penstock.errors import NothingToDo
from penstock.registry import settling
from penstock.registry.promotion import promote
from penstock.spec.project import Column
from tests.integration.shelf import Killed, kill_after
from tests.integration.watched_shop import FIRST, JUNE, MAY, ROWS, Shop, alerts_of, calm, failing, promoted, shop

__all__ = ["calm", "failing", "promoted", "shop"]


def test_bad_quality_retrains_and_the_figures_say_why(failing: Shop):
    decision = failing.decide(MAY)
    assert decision.decision == "retrain"
    assert any("log_loss" in reason and "promised 0.6200" in reason for reason in decision.reasons)
    row = failing.table("retraining_decisions").iloc[0]
    assert (row["decision"], row["production_version"]) == ("retrain", 1)
    assert json.loads(row["evidence"])["facts"]["new_labelled_rows"] == ROWS
    assert json.loads(row["reasons"]) == decision.reasons


@pytest.mark.parametrize(
    ("path", "value", "decision"),
    [
        (("retraining", "minimum_labelled_rows"), ROWS + 1, "hand_back"),
        (("retraining", "cool_down"), "90d", "no"),
        (("retraining", "mode"), "manual", "hand_back"),
        (("monitoring", "quality"), [{"metric": "log_loss", "tolerance": 5.0}], "no"),
    ],
)
def test_one_changed_threshold_flips_the_decision_on_the_same_data(failing: Shop, path, value, decision: str):
    assert failing.decide(MAY).decision == "retrain"
    failing.change(*path, value=value)
    failing.monitor(MAY)
    assert failing.decide(MAY).decision == decision
    assert failing.table("retraining_decisions")["decision"].tolist() == [decision]
    handed = failing.table("alerts").query("kind == 'retraining'")
    assert len(handed) == (decision == "hand_back")


def test_a_promotion_that_was_killed_is_whole_before_anything_is_decided(failing: Shop, monkeypatch):
    failing.decide(MAY)
    failing.register(failing.orders(FIRST, MAY), production=False)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)  # the intent and the alias: the version is in production, and its rows say pending
        with pytest.raises(Killed):
            promote(failing.workspace, failing.project, failing.model, 2, "ada", "better", {}, MAY)
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(0))
    with pytest.raises(NothingToDo, match="version 2 is in production now"):
        failing.decide(MAY)
    assert set(failing.table("deployments")["state"]) == {"completed"}


def test_a_calm_month_is_decided_too(calm: Shop):
    calm.monitor(MAY)
    assert calm.decide(MAY).decision == "no"
    assert calm.table("retraining_decisions")["decision"].tolist() == ["no"]


def test_without_production_or_monitoring_the_decision_is_no(shop: Shop):
    assert shop.decide(FIRST).decision == "no"
    shop.register(shop.orders(FIRST, MAY))
    decision = shop.decide(MAY)
    assert decision.decision == "no"
    assert "none of its predictions was monitored yet" in decision.reasons[0]


def test_feature_drift_alone_retrains_nothing(calm: Shop):
    drifted = calm.orders(MAY, JUNE)
    drifted["amount"] += 30  # the prediction stays as it was
    calm.label(calm.score(drifted, JUNE), JUNE)
    assert alerts_of(calm.monitor(JUNE)) == {("feature_drift", "amount", "psi")}
    decision = calm.decide(JUNE)
    assert decision.decision == "no"
    assert any("drift of features alone only alerts" in reason for reason in decision.reasons)


def test_no_label_at_all_is_handed_back_with_an_alert(promoted: Shop):
    promoted.score(promoted.orders(FIRST, MAY), MAY)
    promoted.monitor(MAY)
    assert promoted.decide(MAY).decision == "hand_back"
    alert = promoted.table("alerts").query("kind == 'retraining'").iloc[0]
    assert "No label has become known" in alert["message"]


def test_an_open_data_failure_of_a_table_that_the_model_needs_hands_back(failing: Shop):
    from penstock.quality.report import write_report
    from penstock.quality.validation import validate_batch

    columns = {name: Column(type=kind) for name, kind in failing.spec["sources"]["orders"]["columns"].items()}
    broken = pd.DataFrame({"shop": ["north"]})
    result = validate_batch(broken, None, ["shop", "order_id"], f"{failing.project}.orders", columns)
    assert not result.passed
    write_report(failing.workspace, failing.project, "orders", result, MAY)
    decision = failing.decide(MAY)
    assert decision.decision == "hand_back"
    assert "orders as of 2020-06-01T00:00:00Z" in decision.reasons[0]


def test_a_decision_that_led_to_a_new_version_stands(failing: Shop):
    failing.decide(MAY)
    assert failing.decide(MAY).decision == "retrain"  # killed before the training: again is the same
    failing.register(failing.orders(FIRST, MAY), MAY)
    with pytest.raises(NothingToDo, match="version 2 is in production now"):
        failing.decide(MAY)
    with pytest.raises(NothingToDo, match="decided as of"):
        failing.decide(MAY - timedelta(days=1))
    assert failing.table("retraining_decisions")["decision"].tolist() == ["retrain"]
    # the old version's alerts say nothing about the new one
    decision = failing.decide(MAY + timedelta(days=1))
    assert decision.decision == "no"
    assert "Version 2 is in production, but none of its predictions was monitored yet" in decision.reasons[0]


def test_an_earlier_decision_to_retrain_starts_the_cool_down(failing: Shop):
    assert failing.decide(MAY).decision == "retrain"
    later = MAY + timedelta(days=7)
    failing.label(failing.score(failing.orders(MAY, later), later), later, flipped=True)
    failing.monitor(later)
    decision = failing.decide(later)
    assert decision.decision == "no"
    assert "cool-down of 14 days holds until 2020-06-15T00:00:00Z" in decision.reasons[-1]
