"""What is in a training set, gathered while it is written: rows, times, missing values, and a digest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import EPOCH
from penstock.features.entities import ENTITY_VERSIONS, LABEL_VERSIONS
from penstock.features.point_in_time import matched
from penstock.spec.project import Lookup
from penstock.spec.sql import quote

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame

_VERSIONS = {"entity row(s)": ENTITY_VERSIONS, "label(s)": LABEL_VERSIONS}


@dataclass(frozen=True)
class Content:
    """A training set's content. missing: by looked-up feature, the share of rows for which there was no value.

    hash: the same for the same rows in any order. first, last: prediction times, UTC; None where there are no rows.
    superseded: how many rows of these entities, and how many of their labels, a newer one took the place of.
    """

    rows: int
    first: datetime | None
    last: datetime | None
    label_mean: float | None
    missing: dict[str, float]
    hash: str
    superseded: dict[str, int]


def write_observed(
    frame: "DataFrame", path: str, columns: Sequence[str], time: str, label: str | None, lookups: Sequence[Lookup]
) -> Content:
    """Overwrites the Delta table at `path` with the columns of a frame, and says what it wrote, in one pass.

    frame: as `join_features` answers it, with its columns `matched(i)`.
    """
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.observation import Observation

    names = [lookup.output_name(name) for lookup in lookups for name in lookup.features]
    parts = [part for name in columns for part in (F.col(quote(name)), F.col(quote(name)).isNull())]
    digest = F.xxhash64(*parts)
    superseded = {what: name for what, name in _VERSIONS.items() if name in frame.columns}
    measures = [
        F.count(F.lit(1)).alias("rows"),
        F.min(F.unix_micros(F.col(quote(time)))).alias("first"),
        F.max(F.unix_micros(F.col(quote(time)))).alias("last"),
        F.avg(F.col(quote(label)).cast("double") if label else F.lit(None).cast("double")).alias("label_mean"),
        F.sum(digest.cast("decimal(38,0)")).cast("string").alias("sum"),
        F.bit_xor(digest).alias("xor"),
        *(F.count_if(_is_missing(lookup, number, name)).alias(f"missing_{lookup.output_name(name)}")
          for number, lookup in enumerate(lookups) for name in lookup.features),
        *(F.sum(F.col(name) - 1).alias(name) for name in superseded.values()),
    ]  # fmt: skip
    seen = Observation("training_set")
    written = frame.observe(seen, *measures).select(*map(quote, columns))
    written.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
    return _content(seen.get, list(columns), names, superseded)


def _is_missing(lookup: Lookup, number: int, feature: str) -> Any:
    from pyspark.sql.connect import functions as F

    if feature in lookup.defaults:
        return ~F.col(matched(number))
    return F.col(quote(lookup.output_name(feature))).isNull()


def superseded_warnings(content: Content) -> list[str]:
    """What a person should know of rows that newer ones took the place of."""
    found = [f"{count} {what}" for what, count in content.superseded.items() if count]
    if not found:
        return []
    return [f"{' and '.join(found)} were superseded: of each the newest counts that was known at as_of"]


def _content(seen: dict[str, Any], columns: list[str], names: list[str], superseded: dict[str, str]) -> Content:
    rows = int(seen["rows"])
    facts = json.dumps([columns, rows, seen["sum"], seen["xor"]])
    first, last = (
        None if seen[name] is None else EPOCH + timedelta(microseconds=seen[name]) for name in ("first", "last")
    )
    return Content(
        rows, first, last, seen["label_mean"],
        {name: seen[f"missing_{name}"] / rows for name in names} if rows else {},
        hashlib.sha256(facts.encode()).hexdigest()[:32],
        {what: int(seen[name] or 0) for what, name in superseded.items()},
    )  # fmt: skip
