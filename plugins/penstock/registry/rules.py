"""The rule that decides between a candidate and what it must beat, on figures alone."""

from dataclasses import dataclass

from penstock.gates import Check, Outcome
from penstock.spec.project import Bound

_ROUNDING = 1e-12  # sums of floats in another order differ by less than this


@dataclass(frozen=True)
class Duel:
    """One metric on the same rows: the candidate's value and the reference's, and which way is better."""

    metric: str
    candidate: float
    reference: float
    lower_is_better: bool

    @property
    def better_by(self) -> float:
        """How much better the candidate is; negative where it is worse."""
        return self.reference - self.candidate if self.lower_is_better else self.candidate - self.reference


def is_enough(better_by: float, required: float, *, strictly: bool = False) -> bool:
    """Whether a candidate is better by at least what is required.

    With nothing required (0), as good is enough; `strictly` (against a heuristic) asks for more than that.
    """
    if strictly and required == 0:
        return better_by > _ROUNDING
    return better_by >= required - _ROUNDING


def check_rows(rows: int, minimum: int, window: str) -> Check:
    """Enough labelled rows to decide on."""
    evidence = {"rows": rows, "minimum_rows": minimum}
    if rows < minimum:
        detail = f"only {rows} labelled rows {window}, at least {minimum} are wanted (promotion.minimum_rows)"
        return Check("labelled rows", Outcome.FAIL, detail, evidence)
    return Check(
        "labelled rows", Outcome.PASS, f"{rows} labelled rows {window}, at least {minimum} are wanted", evidence
    )


def check_bound(metric: str, value: float | None, bound: Bound, why_not: str | None) -> Check:
    """A metric holds its bounds; one that cannot be computed does not."""
    wanted = " and ".join(
        f"at {word} {limit:g}" for word, limit in (("least", bound.min), ("most", bound.max)) if limit is not None
    )
    evidence = {"metric": metric, "value": value, "min": bound.min, "max": bound.max}
    name = f"bound on {metric}"
    if value is None:
        return Check(
            name, Outcome.FAIL, f"{metric} cannot be computed: {why_not or 'it is not a metric of the model'}", evidence
        )
    holds = (bound.min is None or value >= bound.min) and (bound.max is None or value <= bound.max)
    return Check(
        name, Outcome.PASS if holds else Outcome.FAIL, f"{metric} {value:.6g}, wanted {wanted or 'nothing'}", evidence
    )
