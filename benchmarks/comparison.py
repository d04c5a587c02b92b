"""`make bench-comparison`: how often a comparison errs, over 1,000 simulated ones of each kind.

Simulated are labels and the predictions of two models; what decides is what decides in promotion
(`penstock.training.differences`, `penstock.registry.rules`). Equal models: both err alike. Better: the candidate
errs less, by just what the spec declares as `detectable`, on rows of which the gate says that they are enough, and on
fewer. Worse by the margin: what `non_inferior` must refuse.
COMPARISONS shrinks the number to try it out; PAGE=1 writes the table into docs/explanation/comparison.md.
"""

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.stats import beta

from penstock.registry.rules import Demand, demand_on_production, judge_slices
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Project
from penstock.training.blocks import PREDICTION_TIME
from penstock.training.differences import POWER, difference
from penstock.training.metrics import evaluate_metrics, is_lower_better
from penstock.training.units import Units, units_of

PAGE = Path(__file__).resolve().parents[1] / "docs/explanation/comparison.md"
DAYS = 42
MORE_DAYS = 56  # from which on the gate itself says that the rows find an advantage in the area under the curve
LARGE = 4_000  # days from which the true size of an advantage is measured
COLUMNS = ("rows", "days", "drawn", "metric", "rule", "truth", "comparisons", "promoted", "99 % interval", "bar", "met")


@dataclass(frozen=True)
class World:
    """What the two models see: their errors on the logit scale, of single rows and shared by the rows of a day."""

    name: str
    rows_a_day: int
    row_errors: tuple[float, float]  # candidate, production
    day_errors: tuple[float, float]
    day_effect: float

    def equal(self) -> "World":
        """Both err as production does."""
        return replace(self, row_errors=(self.row_errors[1],) * 2, day_errors=(self.day_errors[1],) * 2)

    def worse(self) -> "World":
        """The two change places."""
        return replace(self, row_errors=self.row_errors[::-1], day_errors=self.day_errors[::-1])

    def sample(self, seed: int, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Labels, the candidate's and production's predictions, and each row's day; days differ in size by some."""
        chance = np.random.default_rng(seed)
        sizes = chance.integers(int(0.7 * self.rows_a_day), int(1.3 * self.rows_a_day) + 1, days)
        day = np.repeat(np.arange(days), sizes)
        logit = -1.0 + 1.2 * chance.normal(size=len(day)) + self.day_effect * chance.normal(size=days)[day]
        label = (chance.uniform(size=len(day)) < _probability(logit)).astype("float64")
        said = [
            _probability(logit + of_row * chance.normal(size=len(day)) + of_day * chance.normal(size=days)[day])
            for of_row, of_day in zip(self.row_errors, self.day_errors, strict=True)
        ]
        return label, said[0], said[1], day


INDEPENDENT = World("independent", 50, (0.45, 0.72), (0.0, 0.0), 0.0)
CORRELATED = World("alike within a day", 50, (0.4, 0.68), (0.2, 0.48), 0.5)


@dataclass(frozen=True)
class Case:
    """One kind of comparison, and what share of promotions is right."""

    world: World
    unit: str
    metric: str
    truth: str  # equal, better, worse
    rule: str = "superior"
    bar: str = ""
    days: int = DAYS


def cases() -> Iterator[Case]:
    """Everything that is measured; without a bar: shown as a warning."""
    for metric, days in (("log_loss", DAYS), ("roc_auc", MORE_DAYS)):
        for world, unit in ((INDEPENDENT, "row"), (INDEPENDENT, "day"), (CORRELATED, "day")):
            yield Case(world, unit, metric, "equal", bar="at most alpha")
            yield Case(world, unit, metric, "better", bar="at least power", days=days if world is INDEPENDENT else DAYS)
        yield Case(CORRELATED, "row", metric, "equal", bar="none: too sure")
        yield Case(CORRELATED, "day", metric, "worse", "non_inferior", "at most alpha")
        yield Case(CORRELATED, "day", metric, "equal", "non_inferior", "at least power", days)
    for unit in ("row", "day"):
        yield Case(INDEPENDENT, unit, "roc_auc", "better", bar="none: too few rows")
    yield Case(CORRELATED, "day", "roc_auc", "equal", "non_inferior", "none: too few rows")


@cache
def true_advantage(world: World, metric: str) -> float:
    """How much better the candidate is, on very many rows: what the spec declares as `detectable` or as margin."""
    label, *said, _ = world.sample(seed=1, days=LARGE)
    ours, theirs = (evaluate_metrics(_project(), _model(metric), label, side).values[metric] for side in said)
    return theirs - ours if is_lower_better(_model(metric), metric) else ours - theirs


def share_promoted(case: Case, comparisons: int, seed: int = 0) -> int:
    """How many of so many simulated candidates were promoted."""
    world = {"equal": case.world.equal(), "better": case.world, "worse": case.world.worse()}[case.truth]
    advantage = true_advantage(case.world, case.metric)
    margin = {"rule": "non_inferior", "not_worse_by": advantage} if case.rule == "non_inferior" else {}
    model = _model(case.metric, **margin)
    demand = demand_on_production(model.promotion, "production")
    return sum(_is_promoted(world, case, model, demand, seed + number) for number in range(comparisons))


def _is_promoted(world: World, case: Case, model: Model, demand: Demand, seed: int) -> bool:
    label, candidate, production, day = world.sample(1_000_000 + seed, case.days)
    times = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(day, unit="D")
    units = units_of(pd.DataFrame({PREDICTION_TIME: times}), case.unit, model.promotion.seed)
    return demand.holds(difference(_project(), model, case.metric, label, candidate, production, units))


def share_blocked_by_slices(comparisons: int, slices: int = 20, seed: int = 0) -> int:
    """How many of so many equal candidates one of the slices blocks, with no margin at all."""
    model, blocked = _model("log_loss", slices={"margin": 0.0}), 0
    for number in range(comparisons):
        label, candidate, production, day = CORRELATED.equal().sample(2_000_000 + seed + number, DAYS)
        units, group = Units("day", day, DAYS), np.random.default_rng(number).integers(0, slices, len(label))
        found = {}
        for one in range(slices):
            mask = group == one
            found[str(one)] = difference(
                _project(), model, "log_loss", label[mask], candidate[mask], production[mask], units.within(mask)
            )
        outcomes = judge_slices(model.promotion.slices, model.promotion.alpha, found)
        blocked += any(str(outcome) == "fail" for outcome in outcomes.values())
    return blocked


def interval(count: int, total: int, confidence: float = 0.99) -> tuple[float, float]:
    """Clopper's and Pearson's exact interval of a share."""
    rest = (1 - confidence) / 2
    low = float(beta.ppf(rest, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - rest, count + 1, total - count)) if count < total else 1.0
    return low, high


def main() -> None:
    """Measures every case and prints the table."""
    comparisons, begin = int(os.environ.get("COMPARISONS", "1000")), perf_counter()
    chosen = list(cases())
    with ProcessPoolExecutor(max_workers=2) as pool:
        blocked = pool.submit(share_blocked_by_slices, comparisons // 5)
        counts = list(pool.map(share_promoted, chosen, [comparisons] * len(chosen)))
        blocked_count = blocked.result()
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [_line(case, count, comparisons) for case, count in zip(chosen, counts, strict=True)]
    low, high = interval(blocked_count, comparisons // 5)
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text += (
        f"\n\nOf {comparisons // 5} equal candidates with 20 slices of some 105 rows and a margin of 0, "
        f"a slice blocked {blocked_count} ({low:.3f} to {high:.3f}); declared: at most 0.05."
    )
    print(text)
    print(f"{perf_counter() - begin:.0f} s", file=sys.stderr)
    if os.environ.get("PAGE"):
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            re.sub(r"(<!-- simulation -->\n).*?(\n<!-- end -->)", lambda m: m[1] + text + m[2], page, flags=re.S),
            encoding="utf-8",
        )


def _line(case: Case, count: int, comparisons: int) -> tuple[str, ...]:
    model, share = _model(case.metric), count / comparisons
    alpha = model.promotion.alpha
    low, high = interval(count, comparisons)
    met = {"at most alpha": share <= alpha, "at least power": share >= POWER}.get(case.bar)
    bar = {"at most alpha": f"<= {alpha:g}", "at least power": f">= {POWER:g}"}.get(case.bar, case.bar)
    return (
        case.world.name, str(case.days), f"{case.unit}s", case.metric, case.rule, case.truth, str(comparisons),
        f"{share:.3f}", f"{low:.3f} to {high:.3f}", bar, "" if met is None else "yes" if met else "no",
    )  # fmt: skip


def _probability(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _project() -> LoadedProject:
    return LoadedProject(Project(name="simulation", description="d", owner="o"), Path())


def _model(metric: str, **promotion: object) -> Model:
    return Model.model_validate({
        "description": "simulated", "entity": {"table": "t", "keys": ["k"], "prediction_time": "at"},
        "label": {"name": "y", "table": "l", "expression": "y"}, "training": {"function": "m.train", "metric": metric},
        "promotion": {"metric": metric, **promotion},
    })  # fmt: skip


if __name__ == "__main__":
    main()
