"""How a version and its reproduction differ, and the likely cause."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock.gates import Check, Outcome
from penstock.spec.names import TUNE_PREFIX
from penstock.training.surroundings import Surroundings

if TYPE_CHECKING:
    import numpy as np

_MOST_NAMED = 6
_SAME_METRIC = 1e-9  # relative: a metric sums the same terms, perhaps in another order


@dataclass(frozen=True)
class Compared:
    """The predictions of a version and of the model that was built again, on the same rows.

    repeated: whether a second fit of the same gave the same again; None where that was not tried.
    """

    recorded: "np.ndarray"
    again: "np.ndarray"
    repeated: bool | None = None

    @property
    def identical(self) -> bool:
        """Whether every prediction is the same, bit for bit."""
        return self.different == 0

    @property
    def different(self) -> int:
        """The number of rows with another prediction."""
        import numpy as np

        return int((~((self.recorded == self.again) | (np.isnan(self.recorded) & np.isnan(self.again)))).sum())

    @property
    def largest(self) -> float:
        """The largest difference of a prediction."""
        import numpy as np

        return float(np.nanmax(np.abs(self.recorded - self.again)))

    def with_repeat(self, second: "np.ndarray") -> "Compared":
        """With what a second fit says."""
        import numpy as np

        return replace(self, repeated=bool(np.array_equal(self.again, second, equal_nan=True)))


def check_surroundings(recorded: Surroundings | None, here: Surroundings, required: Sequence[str]) -> Check:
    """Python, machine, packages and the code beside the project's own, then and now. Differences only warn.

    What the model itself requires and the code that decides what it becomes come first.
    """
    if recorded is None:
        return Check("surroundings", Outcome.WARN, "its run does not say what it was made with, so it is not compared")
    changed = recorded.differences(here)
    silent = "" if recorded.code is not None else (
        ". Its run does not say what Penstock's code, imported modules and other files were: they are not compared"
    )  # fmt: skip
    if not changed:
        same = "the same Python, packages and kind of machine"
        return Check("surroundings", Outcome.PASS, same + (silent or ", and the same code beside the project's"))
    code = {**(recorded.code or {}), **(here.code or {})}
    first = [name for name in changed if name in required or name in code]
    others = [name for name in changed if name not in first]
    said = _named(changed, first) if first else f"none of what it requires; {_named(changed, others)}"
    return Check(
        "surroundings", Outcome.WARN, f"otherwise than in training: {said}{silent}",
        {"required": first, "changed": {name: list(pair) for name, pair in changed.items()}},
    )  # fmt: skip


def check_predictions(compared: Compared, before: Sequence[Check]) -> Check:
    """The same prediction for every row; else how many differ, by how much, and why, by the checks `before`."""
    rows = len(compared.recorded)
    evidence: dict[str, Any] = {"rows": rows, "different": compared.different}
    if compared.identical:
        return Check("predictions", Outcome.PASS, f"identical for all {rows} rows of the training set", evidence)
    cause = _likely_cause(compared, before)
    detail = f"differ for {compared.different} of {rows} rows, by {compared.largest:.3g} at most. Likely cause: {cause}"
    return Check(
        "predictions", Outcome.FAIL, detail,
        {**evidence, "largest_difference": compared.largest, "repeats_itself": compared.repeated, "cause": cause},
    )  # fmt: skip


def check_metrics(logged: Mapping[str, float], found: Mapping[str, float]) -> Check:
    """Every metric that the run logged, and that was computed again, has the same value."""
    again = {**{f"{TUNE_PREFIX}{name}": value for name, value in found.items()}, **found}
    pairs = {name: (value, again[name]) for name, value in logged.items() if name in again}
    other = {name: pair for name, pair in pairs.items() if not math.isclose(*pair, rel_tol=_SAME_METRIC)}
    evidence = {"logged": {name: a for name, (a, _) in pairs.items()}, "again": {n: b for n, (_, b) in pairs.items()}}
    if not pairs:
        return Check("metrics", Outcome.WARN, "its run logged no metric to compare")
    if other:
        said = ", ".join(f"{name} was {a:.9g} and is {b:.9g}" for name, (a, b) in other.items())
        return Check("metrics", Outcome.FAIL, said, evidence)
    return Check(
        "metrics", Outcome.PASS, f"the same: {', '.join(f'{n} {a:.6g}' for n, (a, _) in pairs.items())}", evidence
    )


def _likely_cause(compared: Compared, before: Sequence[Check]) -> str:
    if compared.repeated is False:
        return (
            "the learner is not deterministic: two fits of the same rows, parameters and seed differ, too. Give it its "
            "seed (training.seed reaches Python, numpy and PyTorch) and its library's deterministic settings"
        )
    # never the data: the fit had the very rows of the training, built again or stored
    found = [
        f"{check.name}: {check.detail}" for check in before
        if check.name in ("code", "surroundings") and check.outcome is not Outcome.PASS
    ]  # fmt: skip
    return "; ".join(found) or (
        "none was found in code, data or packages: look at threads, the processor, and what the code reads beside them"
    )


def _named(changed: Mapping[str, tuple[str, str]], names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    said = ", ".join(f"{name} {changed[name][0]} (now {changed[name][1]})" for name in names[:_MOST_NAMED])
    return said + (f" and {more} more" if more > 0 else "")
