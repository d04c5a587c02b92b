"""What the project's and the environment's models share."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
_DURATION = re.compile(r"^\s*(\d+)\s*(s|m|h|d|w)\s*$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Spec(BaseModel):
    """A part of a specification: unknown fields are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_duration(value: object) -> timedelta:
    """A duration such as `14d`, `6h`, `30m` or `30s`. Raises ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration: write a number and a unit, such as 14d, 6h, 30m or 30s")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def duration_text(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this duration: `14d`, `36h`."""
    seconds = int(value.total_seconds())
    sizes = {"d": 86_400, "h": 3_600, "m": 60}
    unit = next((unit for unit, size in sizes.items() if seconds and seconds % size == 0), "s")
    return f"{seconds // sizes.get(unit, 1)}{unit}"


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty: write its text")
    return value


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, AfterValidator(_not_empty)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern}),
]
DottedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
Expression = Annotated[str, AfterValidator(_not_empty)]
