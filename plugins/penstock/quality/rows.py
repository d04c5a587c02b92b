"""Rows that failed, as plain values: what JSON holds, with timestamps as ISO texts in UTC."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from penstock.clock import to_text


@dataclass(frozen=True)
class BadRow:
    """A row that failed: its keys, all of it, and every reason.

    A reason is `{expectation, column, value, kwargs, severity}`. `position` is the row's place in a
    pandas batch; None in a Spark batch.
    """

    keys: dict[str, Any]
    row: dict[str, Any]
    reasons: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    position: int | None = None


def plain(value: Any, *, whole: bool = False) -> Any:
    """A cell as a JSON value; a moment without a zone is UTC, NaN and NaT are None.

    `whole`: the column holds whole numbers, which pandas keeps as floats where some are missing.
    """
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _number(value, whole)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return value.isoformat()
    return _other(value)


def canonical_json(value: Any) -> str:
    """The one JSON text of plain values: sorted names, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Keys for a sentence: `customer=7, order=1545`."""
    return ", ".join(f"{name}={value}" for name, value in keys.items())


def _number(value: float, whole: bool) -> Any:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return str(value)
    return int(value) if whole and value.is_integer() else value


def _moment(value: datetime) -> str | None:
    if value != value:  # NaT
        return None
    return to_text(value if value.tzinfo else value.replace(tzinfo=UTC))


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain(item) for item in value]
        return sorted(items, key=canonical_json) if isinstance(value, (set, frozenset)) else items
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if str(value) in {"<NA>", "NaT"} else str(value)
