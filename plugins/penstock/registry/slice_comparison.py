"""A comparison by slice: the metric that decides, on each slice that the project declares."""

from typing import TYPE_CHECKING

from penstock.gates import Check
from penstock.registry.contest import Contest
from penstock.registry.methods import INFORMATIVE, Measured
from penstock.registry.rules import check_slices, judge_slices
from penstock.training.differences import Difference, difference

if TYPE_CHECKING:
    import numpy as np


def compare_slices(contest: Contest, reference: str, said: "np.ndarray") -> tuple[Check | None, list[Measured]]:
    """The check of `promotion.slices`, and a row for each slice; slices with too few rows are not compared.

    said: what the reference says about the contest's rows, float64 of length n.
    """
    rows, rule = contest.rows, contest.model.promotion
    found: dict[str, Difference] = {}
    left_out = contest.slices_left_out
    counts = {name: (0, 0) for name in left_out}
    for name, mask in contest.slices.items():
        size, units = int(mask.sum()), rows.units.within(mask)
        counts[name] = (size, units.count)
        if size < rule.slices.minimum_rows:
            left_out[name] = f"{size} rows, at least {rule.slices.minimum_rows} are wanted"
            continue
        made = difference(
            contest.project, contest.model, rule.metric, rows.label[mask], rows.candidate[mask], said[mask], units
        )
        if made.is_known:
            found[name] = made
        else:
            left_out[name] = str(made.why_not)
    check = check_slices(rule.slices, rule.alpha, found, left_out)
    verdicts = judge_slices(rule.slices, rule.alpha, found)
    measured = [
        Measured(
            reference, found.get(name) or Difference(rule.metric, None, None, why_not=left_out[name]), size,
            rows.units.kind, count, slice=name,
            required=_required(rule.slices.margin_of(name)) if name in found else None,
            verdict=str(verdicts[name]) if name in found else INFORMATIVE,
            reason=left_out.get(name) and f"not compared: {left_out[name]}",
        )
        for name, (size, count) in counts.items()
    ]  # fmt: skip
    return check, measured


def _required(margin: float | None) -> float | None:
    return None if margin is None else -margin
