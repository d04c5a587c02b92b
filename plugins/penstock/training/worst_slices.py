"""Finds where a model is worst: all slices by one feature, and by two, that are large enough.

The lattice search of Slice Finder (Chung et al., IEEE TKDE 2019), whose exhaustive form for two features is a few
products of matrices (as in SliceLine, Sagadeeva and Boehm, SIGMOD 2021). Many slices are looked at, so some look bad
by chance: they are ordered by how much worse than the other rows each *at least* is, by a lower bound that holds for
all of them at once (Bonferroni). A slice of few rows needs a large difference to come first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.training.slices import Slice
from penstock.training.units import Units

if TYPE_CHECKING:
    import numpy as np

MOST_SHOWN = 10
_MOST_FOR_PAIRS = 300  # slices by one feature that are combined
_SAME_ROWS = 0.8  # a slice that shares this much with one before it says nothing new


@dataclass(frozen=True)
class WorstSlice:
    """A slice whose rows have a greater mean loss than the others.

    bias: its mean prediction less its mean label: whether the model is wrong about it as a whole.
    excess: by how much its loss is greater. at_least: the lower bound of excess that holds for every slice that was
    tried at once. is_certain: whether that bound is above 0; else the difference may be chance.
    """

    name: str
    rows: int
    bias: float
    loss: float
    excess: float
    at_least: float
    is_certain: bool


@dataclass(frozen=True)
class SliceSearch:
    """The worst slices of those tried, the worst first; reason: why there are none to be looked for."""

    tried: int
    found: tuple[WorstSlice, ...]
    reason: str = ""


@dataclass(frozen=True)
class _Bounds:
    """Of some slices (each array in the same shape): rows, mean loss, excess over the other rows, and its error."""

    rows: "np.ndarray"
    loss: "np.ndarray"
    excess: "np.ndarray"
    error: "np.ndarray"


def find_worst_slices(
    slices: Sequence[Slice], loss: "np.ndarray", error: "np.ndarray", units: Units, *, minimum_rows: int,
    confidence: float,
) -> SliceSearch:  # fmt: skip
    """Searches the slices and the intersections of two of different columns.

    loss and error (prediction less label): (n,), of n rows. The search is by loss only.

    The standard error of a difference counts rows of one unit (see Units) as one observation.
    A slice that leaves fewer than minimum_rows rows outside is not tried either.
    """
    import numpy as np
    from scipy import stats

    singles = [one for one in slices if minimum_rows <= one.rows <= len(loss) - minimum_rows]
    if not singles:
        return SliceSearch(0, (), f"no slice has {minimum_rows} rows, and as many outside")
    if units.count < 3:
        return SliceSearch(0, (), f"the rows come from {units.count} stretches of time: too few to compare")
    masks = np.stack([one.mask for one in singles]).astype("float32")
    if len(singles) > _MOST_FOR_PAIRS:
        kept = np.argsort(-_measure(masks, loss, units, pairs=False).excess, kind="stable")[:_MOST_FOR_PAIRS]
        singles, masks = [singles[place] for place in sorted(kept)], masks[np.sort(kept)]
    found = _measure(masks, loss, units, pairs=True)
    columns = np.array([one.column for one in singles])
    is_tried = (np.triu(columns[:, None] != columns[None, :]) | np.eye(len(singles), dtype=bool)) & (
        (found.rows >= minimum_rows) & (found.rows <= len(loss) - minimum_rows)
    )
    tried = int(is_tried.sum())
    factor = stats.t.isf((1 - confidence) / tried, df=units.degrees_of_freedom)
    at_least = np.where(is_tried, found.excess - factor * found.error, -np.inf)
    own = np.diag(at_least)
    no_news = ~np.eye(len(singles), dtype=bool) & (at_least <= np.maximum(own[:, None], own[None, :]))
    at_least[no_news] = -np.inf  # two conditions that say no more than one of them
    return SliceSearch(tried, _distinct(singles, found, at_least, error))


def _measure(masks: "np.ndarray", loss: "np.ndarray", units: Units, *, pairs: bool) -> _Bounds:
    """Each slice against the other rows. masks: (s, n), 0 or 1. Arrays of (s,), or (s, s) for the intersections.

    The error of a difference of means, with independent units: each unit's part in both means, squared and summed
    (the cluster-robust sandwich; Cameron and Miller, 2015). For single rows it is that of Welch's test.
    """
    import numpy as np

    def total(weight: "np.ndarray", part: "slice | np.ndarray" = slice(None)) -> "np.ndarray":
        some = masks[:, part]
        return ((some * weight[part]) @ some.T if pairs else some @ weight[part]).astype("float64")

    # centred, so that float32 products keep their digits
    middle = loss.mean()
    centred = (loss - middle).astype("float32")
    ones = np.ones(len(loss), dtype="float32")
    rows, sums = total(ones), total(centred)
    others = np.maximum(len(loss) - rows, 1)
    inside, outside = sums / np.maximum(rows, 1), (centred.sum(dtype="float64") - sums) / others
    if units.single:
        squares = total(centred**2)
        rest = np.sum(centred**2, dtype="float64") - squares
        spread = np.maximum(squares - rows * inside**2, 0) / np.maximum(rows, 1) ** 2
        spread += np.maximum(rest - others * outside**2, 0) / others**2
    else:
        spread = np.zeros_like(inside)
        for number in range(units.count):
            part = np.flatnonzero(units.codes == number)
            count, sum_here = total(ones, part), total(centred, part)
            here = (sum_here - inside * count) / np.maximum(rows, 1)
            there = (centred[part].sum(dtype="float64") - sum_here - outside * (len(part) - count)) / others
            spread += (here - there) ** 2
        spread *= units.count / (units.count - 1)
    return _Bounds(rows, inside + middle, inside - outside, np.sqrt(spread))


def _distinct(
    singles: Sequence[Slice], found: _Bounds, at_least: "np.ndarray", error: "np.ndarray"
) -> tuple[WorstSlice, ...]:
    """The first MOST_SHOWN by at_least that have an excess, without those of almost the same rows as one before."""
    import numpy as np

    chosen: list[WorstSlice] = []
    masks: list[np.ndarray] = []
    for place in np.argsort(-at_least, axis=None, kind="stable"):
        one, two = (int(index) for index in np.unravel_index(place, at_least.shape))
        if not np.isfinite(at_least[one, two]) or len(chosen) == MOST_SHOWN:
            break
        mask = singles[one].mask & singles[two].mask
        if found.excess[one, two] <= 0 or any(_overlap(mask, other) > _SAME_ROWS for other in masks):
            continue
        masks.append(mask)
        name = singles[one].name if one == two else f"{singles[one].name}, {singles[two].name}"
        chosen.append(WorstSlice(
            name, int(mask.sum()), float(error[mask].mean()), float(found.loss[one, two]),
            float(found.excess[one, two]), float(at_least[one, two]), bool(at_least[one, two] > 0),
        ))  # fmt: skip
    return tuple(chosen)


def _overlap(one: "np.ndarray", two: "np.ndarray") -> float:
    return float((one & two).sum() / max((one | two).sum(), 1))
