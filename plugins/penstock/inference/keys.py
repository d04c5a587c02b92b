"""Scores rows of keys that a person gives: features by the model's own feature_spec.json, then its prediction."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import RegistryError, TableError
from penstock.features.entities import newest_here
from penstock.features.given_entities import check_entities
from penstock.features.inputs import open_input, open_lookups
from penstock.features.point_in_time import join_features
from penstock.features.training_set import utc_timestamps
from penstock.inference.batch import PREDICTION
from penstock.registry.client import RegisteredModel
from penstock.registry.production import settled_production
from penstock.registry.stages import ALIASES, Stage
from penstock.spec.faults import suggestion
from penstock.spec.project import Lookup
from penstock.spec.sql import expression_columns
from penstock.training.feature_spec import trained_as_known
from penstock.training.scoring import Scorer, load_scorer_from
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NAME = re.compile(r"(?:models:/)?(?P<project>[a-z]\w*)\.(?P<model>\w+)(?P<by>[@/])(?P<which>[\w-]+)")
_ROW = "penstock_row"


def resolve_model(workspace: Workspace, model: str) -> str:
    """The address `models:/…` of a model: `project.model@production`, `project.model/3`, `models:/…` or `runs:/…`.

    Before `@production` is used, an alias that a hand moved is adopted or reverted, as the environment says.
    Raises RegistryError for an alias or version that is not there, naming those that are.
    """
    match = _NAME.fullmatch(model)
    if match is None:
        return model
    registered = RegisteredModel(workspace, match["project"], match["model"])
    if match["by"] == "@":
        alias = match["which"].lower()
        if alias == ALIASES[Stage.PRODUCTION]:
            production = settled_production(workspace, match["project"], match["model"])
            if production is not None:
                return f"models:/{registered.name}/{production}"
        aliases = registered.aliases()
        if alias not in aliases:
            raise RegistryError(f"{registered.name} has no alias {alias!r}: {suggestion(alias, aliases, 'aliases')}")
        return f"models:/{registered.name}/{aliases[alias]}"
    known = [str(version.version) for version in registered.versions()]
    if match["which"] not in known:
        hint = suggestion(match["which"], known, "versions")
        raise RegistryError(f"{registered.name} has no version {match['which']}: {hint}")
    return f"models:/{registered.name}/{match['which']}"


def score_keys(
    workspace: Workspace, model: str, rows: "pd.DataFrame", as_of: datetime, *, timestamp_key: str | None = None,
    with_features: bool = False,
) -> "pd.DataFrame":  # fmt: skip
    """The rows, in their order, with a column `prediction`; features are looked up as of each row's time.

    What the model takes from the entity row itself and `rows` does not have is read from the model's entity table.
    timestamp_key: the column with the prediction times; by default the one that the model was trained with.
    Raises TableError for missing keys or times, RegistryError and ScoringError for a model that cannot be used.
    """
    scorer = load_scorer_from(workspace, resolve_model(workspace, model))
    time = timestamp_key or scorer.feature_spec["entity"]["prediction_time"]
    given, _ = check_entities(rows, time, None, f"score_batch of {model}")
    frame = _with_features(workspace, scorer, given, time, as_of)
    answer = rows.reset_index(drop=True)
    if with_features:
        extra = [name for name in scorer.columns.names if name not in answer.columns]
        answer = answer.assign(**{name: frame[name].array for name in extra})
    return answer.assign(**{PREDICTION: scorer.predict(frame)}).set_axis(rows.index)


def _with_features(
    workspace: Workspace, scorer: Scorer, rows: "pa.Table", time: str, as_of: datetime
) -> "pd.DataFrame":
    import pyarrow as pa

    spec = scorer.feature_spec
    project = spec["project"]
    lookups = [Lookup.model_validate(item) for item in spec["lookups"]]
    as_known = trained_as_known(spec)
    tables = open_lookups(workspace, project, lookups, as_known)
    numbered = rows.append_column(_ROW, pa.array(range(len(rows)), pa.int64()))
    numbered = _with_entity(workspace, spec, numbered, time, as_of)
    wanted = [*dict.fromkeys([_ROW, time, *spec["entity"]["features"], *_inputs(spec, numbered.column_names)])]
    with workspace.spark() as spark:
        entities = spark.createDataFrame(numbered)
        joined = join_features(spark, entities, lookups, tables, as_of, keep=wanted, time=time, as_known=as_known)
        frame = utc_timestamps(joined.toPandas())
    frame = frame.sort_values(_ROW, ignore_index=True)
    return _on_demand(workspace, spec, frame)


def _inputs(spec: dict[str, Any], there: list[str]) -> list[str]:
    """The columns that on-demand features are computed from, as far as the rows have them."""
    needed = [name for item in spec.get("on_demand", {}).values() for name in item["inputs"]]
    return [name for name in needed if name in there]


def _on_demand(workspace: Workspace, spec: dict[str, Any], frame: "pd.DataFrame") -> "pd.DataFrame":
    if not spec.get("on_demand"):
        return frame
    from penstock.features import on_demand
    from penstock.spec.project import OnDemand

    features = {name: OnDemand.model_validate(item) for name, item in spec["on_demand"].items()}
    return on_demand.apply(frame, on_demand.load(workspace.project(spec["project"]), features))


def _with_entity(
    workspace: Workspace, spec: dict[str, Any], rows: "pa.Table", time: str, as_of: datetime
) -> "pa.Table":  # fmt: skip
    """Adds the columns of the entity's newest row that the model needs and the rows lack, by the entity's keys.

    Where these have several prediction times, it is the row of the time that is asked for.
    """
    import pyarrow as pa

    from penstock.lakehouse.small_tables import read_arrow

    entity = spec["entity"]
    needed = [*entity["features"], *_inputs_of_lookups(spec)]
    missing = [name for name in dict.fromkeys(needed) if name not in rows.column_names]
    if not missing:
        return rows
    if not entity.get("table"):
        raise TableError(f"the rows lack the column(s) {', '.join(missing)}; they have: {', '.join(rows.column_names)}")
    table = open_input(workspace, spec["project"], entity["table"])
    keys = list(entity["keys"])
    absent = [key for key in keys if key not in rows.column_names]
    if absent:
        raise TableError(
            f"the rows have neither {', '.join(missing)} nor the key(s) {', '.join(absent)} of {table.address}, "
            "by which they could be found: give one or the other"
        )
    wanted = dict.fromkeys([*keys, entity["prediction_time"], table.available_at, *missing])
    bound = [(table.available_at, "<=", as_of)]
    found = read_arrow(table.path, version=table.version, columns=list(wanted), filters=bound)
    rows = _with_types_of(rows, found, keys, table.address)
    found = found.join(rows.select(keys), keys, join_type="left semi")
    found = newest_here(found, list(dict.fromkeys([*keys, entity["prediction_time"]])), table.available_at)
    columns = {name: found[name] for name in (*keys, *missing)}
    if len(found.group_by(keys).aggregate([])) < len(found):  # keys that are asked for at several times
        columns[time] = found[entity["prediction_time"]]
        keys = list(dict.fromkeys([*keys, time]))
    found = pa.table(columns)
    unknown = len(rows) - len(rows.join(found, keys, join_type="left semi"))
    if unknown:
        raise TableError(
            f"{unknown} of {len(rows)} rows are not in {table.address} as of {to_text(as_of)}: "
            f"give their {', '.join(missing)} yourself, or other keys"
        )
    return rows.join(found, keys, join_type="left outer")


def _inputs_of_lookups(spec: dict[str, Any]) -> list[str]:
    return [name for lookup in spec["lookups"] for text in lookup["keys"].values() for name in expression_columns(text)]


def _with_types_of(rows: "pa.Table", found: "pa.Table", keys: list[str], table: str) -> "pa.Table":
    import pyarrow as pa

    for key in keys:
        try:
            column = rows[key].cast(found.schema.field(key).type)
        except pa.ArrowInvalid as error:
            raise TableError(f"{key}: {table} has {found.schema.field(key).type}, the rows {rows[key].type}") from error
        rows = rows.set_column(rows.column_names.index(key), key, column)
    return rows
