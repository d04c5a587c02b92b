"""A comparison by slice: the metric that decides, on each slice that the project declares."""

from typing import TYPE_CHECKING

from penstock.gates import Check, Outcome
from penstock.registry.contest import Contest
from penstock.registry.methods import INFORMATIVE, Measured
from penstock.registry.rules import check_slices, judge_slices, unshown
from penstock.training.differences import Difference, difference

if TYPE_CHECKING:
    import numpy as np


def compare_slices(contest: Contest, reference: str, said: "np.ndarray") -> tuple[Check | None, list[Measured]]:
    """The check of `promotion.slices`, and a row for each slice; slices with too few rows are not compared.

    said: what the reference says about the contest's rows, float64 of length n.
    """
    rows, rule = contest.rows, contest.model.promotion
    found: dict[str, Difference] = {}
    small = dict.fromkeys(contest.slices_without_labels, "no labelled rows")
    unknown = dict.fromkeys(contest.slice_columns_left_out, "no column of the candidate's rows")
    unformed = [name for name in rule.slices.margins if name not in small and name not in contest.slices]
    small |= dict.fromkeys(unformed, "no such slice of these rows")
    counts = {name: (0, 0) for name in small | unknown}
    for name, mask in contest.slices.items():
        size, units = int(mask.sum()), rows.units.within(mask)
        counts[name] = (size, units.count)
        if size < rule.slices.minimum_rows:
            small[name] = f"{size} rows, at least {rule.slices.minimum_rows} are wanted"
            continue
        made = difference(
            contest.project, contest.model, rule.metric, rows.label[mask], rows.candidate[mask], said[mask], units
        )
        if made.is_known:
            found[name] = made
        else:
            unknown[name] = str(made.why_not)
    check = check_slices(rule.slices, rule.alpha, found, small, unknown)
    verdicts = judge_slices(rule.slices, rule.alpha, found)
    verdicts |= dict.fromkeys(unshown(rule.slices, small, unknown), Outcome.FAIL)
    left_out = small | unknown
    measured = [
        Measured(
            reference, found.get(name) or Difference(rule.metric, None, None, why_not=left_out[name]), size,
            rows.units.kind, count, slice=name,
            required=_required(rule.slices.margin_of(name)) if name in verdicts else None,
            verdict=str(verdicts.get(name, INFORMATIVE)),
            reason=left_out.get(name) and f"not compared: {left_out[name]}",
        )
        for name, (size, count) in counts.items()
    ]  # fmt: skip
    return check, measured


def _required(margin: float | None) -> float | None:
    return None if margin is None else -margin
