"""Prepared features as one matrix of numbers, for learners that take nothing else."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def to_matrix(features: "pd.DataFrame") -> "np.ndarray":
    """float32 of shape (n, k): numbers as they are, a category by its position from 0, NaN for null."""
    import numpy as np
    import pandas as pd

    matrix = np.empty((len(features), features.shape[1]), dtype="float32")
    for position, name in enumerate(features.columns):
        column = features[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = column.cat.codes.to_numpy(dtype="float32", copy=True)
            codes[codes < 0] = np.nan
            matrix[:, position] = codes
        else:
            matrix[:, position] = column.to_numpy(dtype="float32", na_value=np.nan)
    return matrix
