"""A candidate against production (or a heuristic, the first time), on labelled rows that neither has seen."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of, to_text
from penstock.errors import ServiceError, TableError
from penstock.gates import Check, Outcome, Verdict
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel
from penstock.registry.comparison_rows import recorded_reference, write_comparison
from penstock.registry.rules import Duel, check_bound, check_rows, is_enough
from penstock.registry.stages import current_production
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Lookup, Model, OnDemand
from penstock.training.errors import ScoringError
from penstock.training.heuristic import heuristic_predictions
from penstock.training.metrics import MetricValues, evaluate_metrics, is_lower_better
from penstock.training.scoring import Scorer
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

GATE = "comparison"
PRODUCTION, HEURISTIC = "production", "heuristic"
"""What the candidate is held against: the `method` in model_comparisons."""


@dataclass(frozen=True)
class Contest:
    """One comparison: who, over which time, on how many rows, with which metrics."""

    project: str
    model: str
    candidate: int
    production: int | None
    method: str
    metric: str
    required: float
    window: tuple[datetime, datetime]
    rows: int
    candidate_metrics: MetricValues
    reference_metrics: MetricValues
    lower_is_better: dict[str, bool] = field(default_factory=dict)

    @property
    def opponent(self) -> str:
        """The reference in words."""
        return f"version {self.production}" if self.method == PRODUCTION else "the heuristic"

    @property
    def period(self) -> str:
        """The window in words."""
        return f"after {to_text(self.window[0])} up to {to_text(self.window[1])}"

    def duel(self, metric: str) -> Duel | None:
        """Both values of a metric; None where one of them cannot be computed."""
        ours, theirs = self.candidate_metrics.values.get(metric), self.reference_metrics.values.get(metric)
        if ours is None or theirs is None:
            return None
        return Duel(metric, ours, theirs, self.lower_is_better[metric])


def compare_with_production(
    workspace: Workspace, project_name: str, model_name: str, version: int, as_of: datetime
) -> Verdict:
    """Whether a candidate may replace production, by the rule of `promotion`; recorded in model_comparisons.

    Both score the same rows: prediction time after both versions' trained_until, label known at as_of. The
    candidate must be better by at least `better_by` (0: at least as good) on at least `minimum_rows` rows.
    Before the first promotion it must beat the heuristic (0: by anything) and hold `first_bounds`.

    A repeat of a comparison that was decided upon is held against what it was held against then.
    Raises RegistryError for an unknown version, TableError for a table that is not there, ServiceError where
    Spark or MLflow do not answer.
    """
    project = workspace.project(project_name)
    model = project.model(model_name)
    registered = RegisteredModel(workspace, project_name, model_name)
    registered.version(version)
    subject = f"{registered.name} version {version}"
    production = current_production(workspace, project_name, model_name)
    recorded = recorded_reference(workspace, project_name, model_name, version, as_of)
    if recorded is not None:
        production = recorded.production
    elif production == version:
        return Verdict(
            GATE, subject, (Check("already in production", Outcome.PASS, f"{subject} is in production already"),)
        )
    try:
        candidate = load_version(workspace, registered.name, version)
        bench = _Bench(workspace, project, model_name, as_of, candidate, version)
        contest, notes = _hold(bench, registered, production)
    except ScoringError as error:
        return Verdict(GATE, subject, (Check("candidate scores", Outcome.FAIL, f"version {version}: {error}"),))
    verdict = Verdict(GATE, subject, (*notes, *_judge(contest, model)))
    write_comparison(workspace, project, contest, model.promotion.first_bounds, verdict, as_of)
    return verdict


@dataclass(frozen=True)
class _Bench:
    """The candidate and the rows to hold it against others on."""

    workspace: Workspace
    project: LoadedProject
    model_name: str
    as_of: datetime
    candidate: Scorer
    version: int

    @property
    def model(self) -> Model:
        return self.project.model(self.model_name)

    def rows(self, scorer: Scorer, after: datetime) -> "pd.DataFrame":
        """Labelled rows with the features of a version's own feature_spec."""
        from penstock.features.training_set import labelled_rows

        spec = scorer.feature_spec
        return labelled_rows(
            self.workspace, self.project.name, self.model_name, self.as_of, after,
            lookups=[Lookup.model_validate(item) for item in spec["lookups"]],
            entity_features=spec["entity"]["features"],
            on_demand_features={name: OnDemand.model_validate(x) for name, x in spec.get("on_demand", {}).items()},
        )  # fmt: skip

    def contest(
        self, method: str, production: int | None, after: datetime, frame: "pd.DataFrame",
        candidate: "np.ndarray", reference: "np.ndarray",
    ) -> Contest:  # fmt: skip
        """Both sides' metrics on the same labels."""
        label = frame["label"].to_numpy(dtype="float64")
        values = [
            evaluate_metrics(self.project, self.model, label, prediction) for prediction in (candidate, reference)
        ]
        names = {self.model.promotion.metric, *values[0].values, *values[1].values}
        return Contest(
            self.project.name, self.model_name, self.version, production, method, self.model.promotion.metric,
            self.model.promotion.better_by, (after, self.as_of), len(frame), values[0], values[1],
            {name: is_lower_better(self.model, name) for name in names},
        )  # fmt: skip


def _hold(bench: _Bench, registered: RegisteredModel, production: int | None) -> tuple[Contest, list[Check]]:
    """The contest with production; with the heuristic where there is none, or none that can be asked."""
    if production is None:
        return _against_heuristic(bench, registered, None), []
    try:
        return _against_production(bench, registered.name, production), []
    except _ProductionFails as error:
        note = Check(
            "production scores", Outcome.WARN,
            f"production, version {production}, cannot be asked any more, so the heuristic takes its place: {error}",
        )  # fmt: skip
        return _against_heuristic(bench, registered, production), [note]


class _ProductionFails(Exception):
    """The production version cannot score today's rows."""


def _against_production(bench: _Bench, name: str, production: int) -> Contest:
    try:
        other = load_version(bench.workspace, name, production)
    except ScoringError as error:
        raise _ProductionFails(str(error)) from error
    after = max(_trained_until(bench.candidate), _trained_until(other))
    frame = bench.rows(bench.candidate, after)
    ours = bench.candidate.predict(frame)
    try:
        theirs = other.predict(_rows_of_other(bench, other, after, frame))
    except (ScoringError, TableError) as error:
        raise _ProductionFails(str(error)) from error
    return bench.contest(PRODUCTION, production, after, frame, ours, theirs)


def _rows_of_other(bench: _Bench, other: Scorer, after: datetime, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows with the other version's features, in the same order."""
    mine, theirs = bench.candidate.feature_spec, other.feature_spec
    if mine["entity"]["features"] == theirs["entity"]["features"] and all(
        mine.get(part) == theirs.get(part) for part in ("lookups", "on_demand")
    ):
        return frame
    found = bench.rows(other, after)
    keys = list(bench.model.entity.keys)
    if not found[keys].equals(frame[keys]):
        raise ServiceError(
            f"{bench.project.name}.{bench.model.entity.table}: rows changed between two reads, or the keys "
            f"{', '.join(keys)} are not unique: run the comparison again"
        )
    return found


def _against_heuristic(bench: _Bench, registered: RegisteredModel, production: int | None) -> Contest:
    import json

    from penstock.training.trained_model import FILE_NAME

    after = _trained_until(bench.candidate)
    frame = bench.rows(bench.candidate, after)
    ours = bench.candidate.predict(frame)
    text = registered.run_text(registered.version(bench.version), FILE_NAME)
    mean = json.loads(text)["label_mean"] if text else None
    if mean is None and bench.model.promotion.heuristic is None:
        raise ScoringError(
            f"its run has no {FILE_NAME} with the training block's mean label: declare promotion.heuristic, "
            "or train it with Penstock"
        )
    features = frame[bench.candidate.columns.names]
    theirs = heuristic_predictions(bench.project, bench.model, features, float(mean or 0.0))
    return bench.contest(HEURISTIC, production, after, frame, ours, theirs)


def _judge(contest: Contest, model: Model) -> list[Check]:
    checks = [check_rows(contest.rows, model.promotion.minimum_rows, contest.period), _check_metric(contest)]
    if contest.method == HEURISTIC:
        found = contest.candidate_metrics
        checks += [
            check_bound(name, found.values.get(name), bound, found.left_out.get(name))
            for name, bound in model.promotion.first_bounds.items()
        ]
    others = [
        duel for name in sorted(contest.lower_is_better) if name != contest.metric and (duel := contest.duel(name))
    ]
    if others:
        text = ", ".join(f"{duel.metric} {duel.candidate:.6g} against {duel.reference:.6g}" for duel in others)
        checks.append(Check("other metrics", Outcome.PASS, text, {duel.metric: _figures(duel) for duel in others}))
    return checks


def _check_metric(contest: Contest) -> Check:
    """The rule itself, on the declared metric."""
    metric, required, strictly = contest.metric, contest.required, contest.method == HEURISTIC
    evidence: dict[str, Any] = {
        "metric": metric, "method": contest.method, "production_version": contest.production,
        "candidate_version": contest.candidate, "required_better_by": required, "rows": contest.rows,
        "after": to_text(contest.window[0]), "until": to_text(contest.window[1]),
    }  # fmt: skip
    name = f"better than {contest.method}"
    duel = contest.duel(metric)
    if duel is None:
        why = contest.candidate_metrics.left_out.get(metric) or contest.reference_metrics.left_out.get(metric)
        return Check(name, Outcome.FAIL, f"{metric} cannot be computed {contest.period}: {why}", evidence)
    passed = is_enough(duel.better_by, required, strictly=strictly)
    wanted = f"at least {required:g}" if required else "more than 0" if strictly else "at least as good"
    detail = (
        f"{metric} {duel.candidate:.6g} against {duel.reference:.6g} of {contest.opponent} on {contest.rows} rows: "
        f"{'better' if duel.better_by >= 0 else 'worse'} by {abs(duel.better_by):.6g}, wanted {wanted}"
    )
    return Check(name, Outcome.PASS if passed else Outcome.FAIL, detail, {**evidence, **_figures(duel)})


def _figures(duel: Duel) -> dict[str, Any]:
    return {
        "candidate": duel.candidate, "reference": duel.reference, "better_by": duel.better_by,
        "lower_is_better": duel.lower_is_better,
    }  # fmt: skip


def _trained_until(scorer: Scorer) -> datetime:
    return parse_as_of(scorer.feature_spec["trained_until"])
