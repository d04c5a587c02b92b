"""The rule that lets a candidate into production: what it is compared with, how, and what must be shown."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from penstock.spec.common import DottedName, Spec
from penstock.spec.compliance import Compliance
from penstock.spec.names import COMPARISON_METHODS


class Bound(Spec):
    """A metric's bounds."""

    min: float | None = Field(default=None, description="the least acceptable value")
    max: float | None = Field(default=None, description="the greatest acceptable value")


DAY, WEEK, ROW = "day", "week", "row"
"""What `promotion.resampling` may say beside a column of the entity's row."""


class PromotionRule(StrEnum):
    """What must be shown before a candidate replaces production."""

    SUPERIOR = "superior"
    NON_INFERIOR = "non_inferior"


class SliceRule(Spec):
    """By how much a candidate may be worse on the slices of `evaluation.slices`, by the metric that decides.

    A slice blocks where it is shown to be worse by more than its margin. Of many slices some look worse by
    chance: Holm's correction keeps the chance of blocking by any of them at `alpha`. With `blocks:
    not_shown_safe` each slice must be shown to be no worse than its margin, which small slices seldom can: one with
    a margin of its own blocks where it was not compared, too; `margin` is asked of those with `minimum_rows` only.
    """

    margin: float | None = Field(
        default=None, ge=0,
        description="by how much a slice may be worse, in the metric's unit; without one, slices only warn",
    )  # fmt: skip
    margins: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="margins of single slices, by name"
    )
    minimum_rows: int = Field(
        default=200, ge=2, description="a slice with fewer labelled rows is named as not compared"
    )
    blocks: Literal["shown_worse", "not_shown_safe"] = Field(
        default="shown_worse",
        description="whether a slice blocks by evidence of harm, or by lack of evidence of safety (one that is named "
        "in `margins` also where it was not compared)",
    )

    def margin_of(self, name: str) -> float | None:
        """The margin of a slice; None where it only warns."""
        return self.margins.get(name, self.margin)


class FollowUpAction(StrEnum):
    """What a broken promise after a promotion leads to."""

    ALERT = "alert"
    ROLLBACK = "rollback"


class FollowUp(Spec):
    """Watches the first monitored windows of a new production version, by the rules of `monitoring.quality`.

    Windows with too few labels (`monitoring.minimum_rows`, `labelled_share`) do not count: they wait for theirs.
    """

    windows: int = Field(ge=1, description="how many windows with enough labels are watched")
    action: FollowUpAction = Field(
        default=FollowUpAction.ALERT,
        description="alert: tell people; rollback: the former version comes back by itself, and people are told",
    )
    labelled_share: float = Field(
        default=0.5, ge=0, le=1, description="share of a window's predictions that must have a label"
    )


class Promotion(Spec):
    """The rule that decides, declared before the data is seen.

    A candidate is compared with production and with the heuristic on the newest labelled rows that neither
    has trained on: at least `minimum_rows`. Differences have intervals by a paired bootstrap of `resampling`
    units; `alpha` is the chance of being let in wrongly. `rule: superior` wants the candidate's `metric` shown
    to be better by more than `better_by`; `rule: non_inferior`, for retraining with fresh data, wants it shown
    to be worse by at most `not_worse_by`. Either way it must be better than `heuristic` (under `superior` shown to
    be), and the first version must hold every bound of `first_bounds`.
    """

    metric: str = Field(description="by which versions are compared: a built-in metric or one of training.metrics")
    rule: PromotionRule = Field(
        default=PromotionRule.SUPERIOR,
        description="superior: shown to be better than production; non_inferior: shown not to be worse",
    )
    better_by: float = Field(
        default=0.0,
        description="superior: by how much, in the metric's unit, a candidate must be shown to beat production; "
        "the first version must beat the heuristic by as much under either rule",
    )
    not_worse_by: float = Field(
        default=0.0, ge=0, description="non_inferior: by how much, in the metric's unit, a candidate may be worse"
    )
    guard_metrics: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="further metrics on which the candidate must be shown to be worse than production by at most this",
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5,
        description="error rate: the chance that a candidate which does not deserve it is let in",
    )  # fmt: skip
    detectable: float | None = Field(
        default=None,
        description="the true advantage, in the metric's unit, that is to be found in 90 % of comparisons; "
        "a comparison on too few rows for that says how many it takes",
    )
    minimum_rows: int = Field(default=500, ge=1, description="fewer labelled rows than that compare nothing")
    resampling: str | None = Field(
        default=None,
        description="what belongs together and is drawn as one: day or week (UTC, of the prediction time), row, or a "
        "key or feature of the entity; day by default, row where there are fewer than 14 days",
    )
    repeats: int = Field(
        default=1000, ge=200, le=100_000, description="draws of the bootstrap; own metrics on many rows get fewer"
    )
    seed: int = Field(default=7, ge=0, description="seed of the draws")
    slices: SliceRule = Field(default=SliceRule(), description="what is asked of the slices of evaluation.slices")
    methods: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: list(COMPARISON_METHODS),
        description="how a candidate is compared: heuristic, holdout, or a function(contest) of the project",
    )
    if_production_fails: Literal["block", "heuristic"] = Field(
        default="block",
        description="production cannot be asked any more: block the candidate, or let the heuristic alone decide",
    )
    heuristic: DottedName | None = Field(
        default=None,
        description="function(features) -> predictions that a version must beat; the mean label by default",
    )
    first_bounds: dict[str, Bound] = Field(
        default_factory=dict, description="by metric, the bounds that the first version must hold"
    )
    required_tags: list[str] = Field(
        default_factory=list, description="tags that a version needs to pass the compliance check"
    )
    follow_up: FollowUp | None = Field(
        default=None, description="what happens when a new version breaks its promise; nobody looks by default"
    )
    compliance: Compliance = Field(default=Compliance(), description="what else every version must comply with")

    @property
    def threshold(self) -> float:
        """What a difference from production must be shown to exceed."""
        return self.better_by if self.rule is PromotionRule.SUPERIOR else -self.not_worse_by
