"""The rule of retraining: what is known, and what follows from it. No table, no service, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from penstock.clock import to_text
from penstock.monitoring.metric_rows import Kind
from penstock.spec.project import Retraining, RetrainingTrigger


class Decision(StrEnum):
    """What a retraining decision says. HAND_BACK: new data would not mend it; people must look."""

    RETRAIN = "retrain"
    NO = "no"
    HAND_BACK = "hand_back"


@dataclass(frozen=True)
class AlertFact:
    """An alert of the newest window about the production version."""

    kind: str
    column: str
    metric: str
    message: str


@dataclass(frozen=True)
class Facts:
    """All that the decision depends on, as of a moment.

    `window_end` is that of the newest window in which the production version predicted (None: not yet),
    `rows` and `labelled_rows` count its predictions there. `new_labelled_rows` are entity rows with a label
    after the version's `trained_until`. `trained_as_of` is when it was trained, `last_retrain` when an
    earlier decision said retrain. `data_failures` are open failures of the quality gates of its tables.
    """

    as_of: datetime
    production_version: int | None
    window_start: datetime | None = None
    window_end: datetime | None = None
    rows: int = 0
    labelled_rows: int = 0
    alerts: Sequence[AlertFact] = field(default_factory=tuple)
    trained_as_of: datetime | None = None
    trained_until: datetime | None = None
    new_labelled_rows: int = 0
    last_retrain: datetime | None = None
    data_failures: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Ruling:
    """A decision and its reasons, as sentences with figures."""

    decision: Decision
    reasons: list[str]


_TRIGGER_KINDS = {Kind.QUALITY: RetrainingTrigger.QUALITY, Kind.PREDICTION_DRIFT: RetrainingTrigger.PREDICTION_DRIFT}


def policy(facts: Facts, rules: Retraining) -> Ruling:
    """Whether to train again.

    A trigger is quality below what was promised, or drift of the prediction, if the rules list it. Without one
    the answer is no. What new data would not mend is handed back to people: a column that went missing, no
    label since the last training, and, where a trigger holds, an open failure of a quality gate, too few
    labels, or the mode manual. A cool-down puts a retraining off. Drift of features alone only alerts.
    """
    if facts.production_version is None:
        return Ruling(Decision.NO, ["No version is in production: there is nothing to train again."])
    if facts.window_end is None:
        return Ruling(
            Decision.NO,
            [f"Version {facts.production_version} is in production, but none of its predictions was monitored yet."],
        )
    triggers = _triggers(facts, rules)
    seen = [*triggers, *_only_alerts(facts, rules)]
    broken = _broken(facts, bool(triggers))
    if broken:
        return Ruling(Decision.HAND_BACK, [*broken, *seen])
    if not triggers:
        return Ruling(Decision.NO, [_all_well(facts, rules), *seen])
    few = _too_few_labels(facts, rules)
    if few:
        return Ruling(Decision.HAND_BACK, [*triggers, few])
    cooling = _cooling_down(facts, rules)
    if cooling:
        return Ruling(Decision.NO, [*triggers, cooling])
    if rules.mode == "manual":
        return Ruling(Decision.HAND_BACK, [*triggers, "The mode is manual: a person decides, and starts the training."])
    return Ruling(Decision.RETRAIN, [*triggers, *_guards_held(facts, rules), *_only_alerts(facts, rules)])


def _triggers(facts: Facts, rules: Retraining) -> list[str]:
    return [
        f"{_sentence(alert.message)} That is a trigger ({_TRIGGER_KINDS[Kind(alert.kind)]})."
        for alert in facts.alerts
        if _trigger_of(alert) in rules.triggers
    ]


def _only_alerts(facts: Facts, rules: Retraining) -> list[str]:
    """What was alerted, and starts no training."""
    drifted = [alert.column for alert in facts.alerts if alert.kind == Kind.FEATURE_DRIFT]
    said = []
    if drifted:
        said.append(f"{len(drifted)} feature(s) drifted ({', '.join(drifted)}): drift of features alone only alerts.")
    for alert in facts.alerts:
        trigger = _trigger_of(alert)
        if trigger is not None and trigger not in rules.triggers:
            said.append(f"{_sentence(alert.message)} {trigger} is not among the triggers: it only alerts.")
        elif alert.kind == Kind.FRESHNESS:
            said.append(_sentence(alert.message))
    return said


def _trigger_of(alert: AlertFact) -> RetrainingTrigger | None:
    return _TRIGGER_KINDS.get(Kind(alert.kind))


def _broken(facts: Facts, triggered: bool) -> list[str]:
    """What a model trained on such data would only learn."""
    found = [
        f"{_sentence(alert.message)} A signal is missing: mend its source, since training would only learn its absence."
        for alert in facts.alerts
        if alert.kind == Kind.MISSING
    ]
    if triggered:
        found += [
            f"A data-quality failure is open: {_sentence(text)} Mend the data before training on it."
            for text in facts.data_failures
        ]
    if facts.new_labelled_rows == 0:
        found.append(
            f"No label has become known since {_when(facts.trained_until)}, up to which version "
            f"{facts.production_version} has learned: nothing can be measured or learned. Look for the labels."
        )
    return found


def _all_well(facts: Facts, rules: Retraining) -> str:
    return (
        f"Version {facts.production_version}: no trigger ({', '.join(rules.triggers) or 'none declared'}) "
        f"in the window up to {_when(facts.window_end)}, "
        f"of {facts.rows:,} predictions, {facts.labelled_rows:,} labelled."
    )


def _too_few_labels(facts: Facts, rules: Retraining) -> str | None:
    if facts.new_labelled_rows >= rules.minimum_labelled_rows:
        return None
    return (
        f"Only {facts.new_labelled_rows:,} labelled rows came after {_when(facts.trained_until)}, up to which version "
        f"{facts.production_version} has learned: fewer than minimum_labelled_rows {rules.minimum_labelled_rows:,}."
    )


def _last_training(facts: Facts) -> datetime | None:
    moments = [moment for moment in (facts.trained_as_of, facts.last_retrain) if moment is not None]
    return max(moments, default=None)


def _cooling_down(facts: Facts, rules: Retraining) -> str | None:
    last = _last_training(facts)
    if last is None or facts.as_of - last >= rules.cool_down:
        return None
    return (
        f"The cool-down of {_days(rules.cool_down.total_seconds())} holds until {_when(last + rules.cool_down)}: "
        f"the last training was started as of {_when(last)}."
    )


def _guards_held(facts: Facts, rules: Retraining) -> list[str]:
    last = _last_training(facts)
    past = "" if last is None else f" The last training was as of {_when(last)}, longer ago than the cool-down."
    return [
        f"{facts.new_labelled_rows:,} labelled rows came after {_when(facts.trained_until)}, enough for "
        f"minimum_labelled_rows {rules.minimum_labelled_rows:,}.{past} No data-quality failure is open."
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."  # not capitalised: it may begin with a column's name


def _when(moment: datetime | None) -> str:
    return "an unrecorded moment" if moment is None else to_text(moment)


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:g} days"
