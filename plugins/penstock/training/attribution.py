"""SHAP values: how much each feature moved each prediction (Lundberg and Lee, NeurIPS 2017)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.spec.project import Task
from penstock.training.pictures import evenly_spaced
from penstock.training.predictors import predict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TREE_ROWS = 500
AGNOSTIC_ROWS = 200
PERMUTATION_PAIRS = 8


@dataclass(frozen=True)
class Attribution:
    """SHAP values (n, k) of n sampled rows of k prepared features, in `unit`, by `method`."""

    values: "np.ndarray"
    features: "pd.DataFrame"
    unit: str
    method: str

    def importance(self) -> "pd.DataFrame":
        """Columns feature and mean_abs_shap, the most important first."""
        import numpy as np
        import pandas as pd

        table = pd.DataFrame({
            "feature": list(self.features.columns), "mean_abs_shap": np.abs(self.values).mean(axis=0),
        })  # fmt: skip
        return table.sort_values("mean_abs_shap", ascending=False, kind="stable", ignore_index=True)


def attribute(model: Any, features: "pd.DataFrame", task: Task, seed: int) -> Attribution:
    """SHAP values of an evenly spread sample of prepared rows.

    Exact ones by LightGBM's own TreeSHAP where the model is one of its, in log-odds for classification;
    else estimated by permutations of the features, asking the model as a black box, in its own unit.
    """
    booster = getattr(model, "booster_", model)
    if type(booster).__module__.startswith("lightgbm") and hasattr(booster, "predict"):
        sample = features.iloc[evenly_spaced(len(features), TREE_ROWS)]
        values = booster.predict(sample, pred_contrib=True)[:, :-1]  # the last column is the base value
        unit = "log-odds" if task is Task.CLASSIFICATION else "the label's unit"
        return Attribution(values, sample, unit, "TreeSHAP of LightGBM")
    sample = features.iloc[evenly_spaced(len(features), AGNOSTIC_ROWS)]
    unit = "probability" if task is Task.CLASSIFICATION else "the label's unit"
    return Attribution(_permutation(model, sample, features, task, seed), sample, unit, "permutation sampling")


def _permutation(model: Any, sample: "pd.DataFrame", pool: "pd.DataFrame", task: Task, seed: int) -> "np.ndarray":
    """Shapley values by sampled permutations (Strumbelj and Kononenko, 2014), each with its reverse.

    Along a permutation, the features of a random row of `pool` are replaced by the sample's, one by one; what
    a step changes in the prediction is that feature's share. A row's values add up to its prediction less the
    mean prediction of the rows that it started from. All rows are asked at once: the package shap asks row by
    row, and first spends 10 s in each process on compiling itself.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    codes = _Codes(sample)
    end, starts = codes.encode(sample), codes.encode(pool)
    rows, count = end.shape
    total = np.zeros((rows, count))
    for _ in range(PERMUTATION_PAIRS):
        start = starts[random.integers(len(starts), size=rows)]
        order = random.permutation(count)
        for chosen in (order, order[::-1]):
            replaced = np.argsort(chosen)[None, :] < np.arange(count + 1)[:, None]  # (steps, features)
            path = np.where(replaced[None], end[:, None, :], start[:, None, :]).reshape(-1, count)
            answers = predict(model, codes.decode(path), task).reshape(rows, count + 1)
            total[:, chosen] += np.diff(answers, axis=1)
    return total / (2 * PERMUTATION_PAIRS)


class _Codes:
    """Prepared features as a matrix of floats, categories as their codes (NaN for null), and back."""

    def __init__(self, frame: "pd.DataFrame") -> None:
        import pandas as pd

        self._names = list(frame.columns)
        self._dtypes = {name: dtype for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}

    def encode(self, frame: "pd.DataFrame") -> "np.ndarray":
        import numpy as np

        columns = [
            frame[name].cat.codes.where(frame[name].notna()) if name in self._dtypes else frame[name]
            for name in self._names
        ]
        return np.column_stack([column.to_numpy(dtype="float64") for column in columns])

    def decode(self, matrix: "np.ndarray") -> "pd.DataFrame":
        import numpy as np
        import pandas as pd

        columns: dict[str, Any] = {}
        for position, name in enumerate(self._names):
            values = matrix[:, position]
            if name in self._dtypes:
                whole = np.where(np.isnan(values), -1, values).astype(int)
                columns[name] = pd.Categorical.from_codes(whole, dtype=self._dtypes[name])
            else:
                columns[name] = values
        return pd.DataFrame(columns)
