"""The retraining policy: which facts lead to which decision, and that the reasons say so."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from penstock.monitoring.metric_rows import Kind
from penstock.monitoring.retraining_policy import AlertFact, Decision, Facts, policy
from penstock.spec.project import Retraining

NOW = datetime(2020, 6, 30, tzinfo=UTC)
RULES = Retraining(minimum_labelled_rows=1000, cool_down="14d")

QUALITY = AlertFact(
    Kind.QUALITY, "", "log_loss", "log_loss 0.6100 is above 0.5800 (promised 0.5500, tolerated 0.03 worse)"
)
PREDICTION = AlertFact(Kind.PREDICTION_DRIFT, "", "psi", "the prediction drifted: psi 0.310 is above 0.1")
FEATURE = AlertFact(Kind.FEATURE_DRIFT, "temp", "psi", "temp drifted: psi 0.910 is above 0.2")
MISSING = AlertFact(
    Kind.MISSING, "temp", "missing_share", "temp is missing in 60.0% of the predictions, 1.0% in training"
)
STALE = AlertFact(Kind.FRESHNESS, "weather", "age_hours", "weather is 90.0 h old at 2020-06-30T00:00:00Z")

CALM = Facts(
    as_of=NOW,
    production_version=3,
    window_start=NOW - timedelta(days=30),
    window_end=NOW,
    rows=5000,
    labelled_rows=4900,
    trained_as_of=NOW - timedelta(days=60),
    trained_until=NOW - timedelta(days=90),
    new_labelled_rows=8000,
)


def decide(rules=RULES, **changes):
    return policy(replace(CALM, **changes), rules)


def test_without_a_production_version_the_answer_is_no():
    ruling = decide(production_version=None, alerts=[QUALITY])
    assert ruling.decision == Decision.NO
    assert "No version is in production" in ruling.reasons[0]


def test_a_version_that_was_not_monitored_yet_is_not_trained_again():
    ruling = decide(window_end=None, new_labelled_rows=0)
    assert ruling.decision == Decision.NO
    assert "none of its predictions was monitored yet" in ruling.reasons[0]


def test_without_alerts_the_answer_is_no_with_what_was_looked_at():
    ruling = decide()
    assert ruling.decision == Decision.NO
    assert "5,000 predictions, 4,900 labelled" in ruling.reasons[0]


@pytest.mark.parametrize("trigger", [QUALITY, PREDICTION])
def test_a_trigger_with_all_guards_held_retrains_and_gives_the_figures(trigger):
    ruling = decide(alerts=[trigger, FEATURE])
    assert ruling.decision == Decision.RETRAIN
    text = " ".join(ruling.reasons)
    assert trigger.message in text
    assert "8,000 labelled rows" in text
    assert "No data-quality failure is open" in text


def test_drift_of_features_alone_only_alerts():
    ruling = decide(alerts=[FEATURE, STALE])
    assert ruling.decision == Decision.NO
    assert any("temp" in reason and "alone only alerts" in reason for reason in ruling.reasons)


def test_an_alert_that_is_no_declared_trigger_only_alerts():
    only_quality = Retraining(triggers=["quality"], minimum_labelled_rows=1000, cool_down="14d")
    ruling = decide(only_quality, alerts=[PREDICTION])
    assert ruling.decision == Decision.NO
    assert any("prediction_drift is not among the triggers" in reason for reason in ruling.reasons)
    assert decide(only_quality, alerts=[QUALITY]).decision == Decision.RETRAIN


@pytest.mark.parametrize("alerts", [[MISSING], [MISSING, QUALITY]])
def test_a_missing_signal_is_handed_back_whatever_else_holds(alerts):
    ruling = decide(alerts=alerts)
    assert ruling.decision == Decision.HAND_BACK
    assert "temp is missing" in ruling.reasons[0]


def test_broken_data_behind_a_trigger_is_handed_back():
    failures = ["carrier_daily as of 2020-06-30T00:00:00Z: 12 null keys."]
    ruling = decide(alerts=[QUALITY], data_failures=failures)
    assert ruling.decision == Decision.HAND_BACK
    assert "carrier_daily" in ruling.reasons[0]
    assert decide(data_failures=failures).decision == Decision.NO


def test_no_label_at_all_is_handed_back_with_and_without_a_trigger():
    for alerts in ([], [PREDICTION]):
        ruling = decide(alerts=alerts, new_labelled_rows=0)
        assert ruling.decision == Decision.HAND_BACK
        assert "No label has become known" in ruling.reasons[0]


def test_too_few_labels_behind_a_trigger_are_handed_back_with_the_count():
    ruling = decide(alerts=[QUALITY], new_labelled_rows=999)
    assert ruling.decision == Decision.HAND_BACK
    assert "Only 999 labelled rows" in ruling.reasons[-1]
    assert decide(alerts=[QUALITY], new_labelled_rows=1000).decision == Decision.RETRAIN
    assert decide(new_labelled_rows=999).decision == Decision.NO


@pytest.mark.parametrize("past", ["trained_as_of", "last_retrain"])
def test_the_cool_down_counts_in_as_of_from_the_last_training_or_decision(past):
    ruling = decide(alerts=[QUALITY], **{past: NOW - timedelta(days=13, hours=23)})
    assert ruling.decision == Decision.NO
    assert "cool-down of 14 days holds until 2020-06-30T01:00:00Z" in ruling.reasons[-1]
    assert QUALITY.message in ruling.reasons[0]
    assert decide(alerts=[QUALITY], **{past: NOW - timedelta(days=14)}).decision == Decision.RETRAIN


def test_without_a_recorded_training_there_is_no_cool_down():
    assert decide(alerts=[QUALITY], trained_as_of=None).decision == Decision.RETRAIN


def test_manual_mode_hands_the_trigger_to_a_person():
    manual = RULES.model_copy(update={"mode": "manual"})
    ruling = decide(manual, alerts=[QUALITY])
    assert ruling.decision == Decision.HAND_BACK
    assert "manual" in ruling.reasons[-1]
    assert decide(manual).decision == Decision.NO


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({"minimum_labelled_rows": 9000}, Decision.HAND_BACK),
        ({"cool_down": "61d"}, Decision.NO),
        ({"triggers": ["prediction_drift"]}, Decision.NO),
        ({"mode": "manual"}, Decision.HAND_BACK),
        ({}, Decision.RETRAIN),
    ],
)
def test_one_changed_rule_flips_the_decision_on_the_same_facts(change, decision):
    rules = Retraining.model_validate({"minimum_labelled_rows": 1000, "cool_down": "14d", **change})
    assert decide(rules, alerts=[QUALITY]).decision == decision
