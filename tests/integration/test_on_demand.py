"""On-demand features: the same values from Spark's workers and in process, and errors that name the function."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import TableError
from penstock.features import on_demand
from penstock.lakehouse.small_tables import read
from penstock.spec.loading import LoadedProject
from penstock.spec.project import OnDemand
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root

Make = Callable[..., Workspace]
MODULE = """
from .scales import SCALE

def scaled(inputs):
    assert (inputs.dtypes == "float64").all()
    return inputs["speed"] * SCALE + inputs["calm"].fillna(0)

def hour(inputs):
    return inputs["asked_at"].dt.tz_convert("UTC").dt.hour

def shout(inputs):
    return inputs["site"].map(lambda text: None if text is None else text.upper()).astype("category")

def broken(inputs):
    raise KeyError("wind")

def short(inputs):
    return inputs["speed"].head(1)

def no_series(inputs):
    return list(inputs["speed"])

def texts(inputs):
    return inputs["site"]
"""
SPECS = {
    "scaled": OnDemand(function="models.given.scaled", inputs=["speed", "calm"], type="double"),
    "hour": OnDemand(function="models.given.hour", inputs=["asked_at"], type="int"),
    "shout": OnDemand(function="models.given.shout", inputs=["site"], type="string"),
}


@pytest.fixture
def workspace(make_workspace: Make, tmp_path: Path) -> Workspace:
    """A workspace whose project has functions that the server cannot import."""
    root = copy_root(tmp_path)
    models = root / "include/projects" / PROJECT / "models"
    (models / "given.py").write_text(MODULE)
    (models / "scales.py").write_text("SCALE = 10\n")
    return make_workspace(root)


@pytest.fixture
def project(workspace: Workspace) -> LoadedProject:
    return workspace.project(PROJECT)


@pytest.fixture
def rows() -> pd.DataFrame:
    """More rows than one batch holds, with nulls of every type."""
    count = 60_000
    draws = np.random.default_rng(1)
    frame = pd.DataFrame({"speed": pd.array(draws.integers(0, 30, count), "Int32"), "row": range(count)})
    frame.loc[draws.random(count) < 0.1, "speed"] = pd.NA
    frame["calm"] = pd.array(draws.random(count) < 0.5, "boolean")
    frame["site"] = draws.choice(["north", "south", None], count)
    frame["asked_at"] = pd.Timestamp("2024-03-10", tz="UTC").as_unit("us") + pd.to_timedelta(np.arange(count), "min")
    return frame


@pytest.fixture
def spark_rows(workspace: Workspace, rows: pd.DataFrame) -> Iterator[object]:
    import pyarrow as pa

    with workspace.spark() as spark:
        yield spark.createDataFrame(pa.Table.from_pandas(rows, preserve_index=False))


def test_workers_and_this_process_compute_the_same(
    project: LoadedProject, rows: pd.DataFrame, spark_rows: object, tmp_path: Path
) -> None:
    features = on_demand.load(project, SPECS)
    here = on_demand.apply(rows.set_index(rows["row"] + 7), features)
    assert list(here.index[:2]) == [7, 8]
    expected = rows["speed"].astype("float64") * 10 + rows["calm"].astype("float64")
    np.testing.assert_array_equal(here["scaled"].to_numpy(), expected.to_numpy())
    assert set(here["shout"].dropna()) == {"NORTH", "SOUTH"}
    on_demand.add(spark_rows, features).write.format("delta").save(str(tmp_path / "there"))  # type: ignore[arg-type]
    there = read(str(tmp_path / "there")).sort_values("row", ignore_index=True)
    assert list(there.columns) == [*rows.columns, *SPECS]
    for name in SPECS:
        left, right = here[name].reset_index(drop=True), there[name]
        pd.testing.assert_series_equal(left, right, check_dtype=False, check_names=False)


BAD = {
    "broken": (["speed"], "models.given.broken failed: KeyError: 'wind'"),
    "short": (["speed"], "must return a pandas Series of 60000 values, not 1 values"),
    "no_series": (["speed"], "must return a pandas Series of 60000 values, not list"),
    "texts": (["site"], "models.given.texts gives values that are no double"),
    "scaled": (["speed", "wind"], "the rows have no column.s. wind"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_function_that_does_not_fit_is_named(project: LoadedProject, rows: pd.DataFrame, name: str) -> None:
    inputs, message = BAD[name]
    features = on_demand.load(project, {"odd": OnDemand(function=f"models.given.{name}", inputs=inputs, type="double")})
    with pytest.raises(TableError, match=f"on-demand feature odd: .*{message}"):
        on_demand.apply(rows, features)


def test_a_function_that_fails_on_the_server_is_named_too(project: LoadedProject, spark_rows: object) -> None:
    features = on_demand.load(
        project, {"odd": OnDemand(function="models.given.broken", inputs=["speed"], type="double")}
    )
    message = "^on-demand feature odd: models.given.broken failed: KeyError: 'wind'$"
    with pytest.raises(TableError, match=message), on_demand.named_failures():
        on_demand.add(spark_rows, features).toPandas()  # type: ignore[arg-type]
