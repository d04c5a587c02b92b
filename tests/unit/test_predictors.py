"""Models that cannot take the rows that they are asked about."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from penstock.spec.project import Task
from penstock.training.errors import ScoringError
from penstock.training.predictors import predict


def test_a_model_that_fails_on_the_rows_is_named_with_what_it_says() -> None:
    rows = pd.DataFrame({"load": [0.0, 1.0]})
    strict = LogisticRegression().fit(rows, [0, 1])
    assert len(predict(strict, rows, Task.CLASSIFICATION)) == 2
    with pytest.raises(ScoringError, match=r"LogisticRegression failed on 2 rows: ValueError: Input X contains NaN"):
        predict(strict, rows.replace(1.0, np.nan), Task.CLASSIFICATION)
