"""What the compliance check asks of a version: in a model's `promotion.compliance`, and in an environment."""

from enum import StrEnum

from pydantic import Field, field_validator

from penstock.spec.common import DottedName, Duration, Name, Spec, Text, parse_duration


class Severity(StrEnum):
    """What a failed check does: it archives the version, it only warns, or the check is not made."""

    BLOCK = "block"
    WARN = "warn"
    OFF = "off"


class Compliance(Spec):
    """How a model's versions are checked before they may be compared. docs/reference/compliance-checks.md has the list.

    `own` checks are functions of the project: function(subject) -> penstock.gates.Check.
    """

    severities: dict[Name, Severity] = Field(
        default_factory=dict,
        description="by check, what its failure does; the environment's severities come first, and outside of dev "
        "they alone set `origin`",
    )
    own: dict[Name, DottedName] = Field(
        default_factory=dict, description="further checks by name: function(subject) -> penstock.gates.Check"
    )
    forbidden_columns: list[Text] = Field(
        default_factory=list,
        description="columns that the model must not use, not even through features made from them: `table.column` "
        "or `project.table.column`, beside those declared with `personal: true`",
    )
    max_size_megabytes: float = Field(default=500, gt=0, description="size budget: all files of the model")
    max_row_milliseconds: float = Field(
        default=200, gt=0, description="latency budget: median of single rows, one after the other"
    )
    min_rows_per_second: float = Field(default=200, gt=0, description="latency budget: rows of one batch in a second")
    max_feature_age: Duration | None = Field(
        default=None,
        description="how old the newest row of each looked-up table may be at as_of; each lookup's max_age by default",
    )
    timeout: Duration = Field(
        default=parse_duration("5m"), description="how long the model may take to load and score in its own process"
    )
    max_memory_megabytes: int = Field(default=8192, ge=256, description="how much memory that process may take")

    @field_validator("forbidden_columns")
    @classmethod
    def _columns(cls, value: list[str]) -> list[str]:
        for text in value:
            parts = text.split(".")
            if len(parts) not in (2, 3) or not all(part.isidentifier() for part in parts):
                raise ValueError(f"{text!r} is no column: write table.column or project.table.column")
        return value


class EnvironmentCompliance(Spec):
    """What an environment asks of every version, whatever its project says."""

    severities: dict[Name, Severity] = Field(
        default_factory=dict, description="by check, what its failure does here: the last word"
    )


class Code(Spec):
    """Which code may train the models of an environment."""

    branches: list[Text] = Field(
        default_factory=list,
        description="branches whose commits count as reviewed, with `*` for any text; any commit, if empty",
    )
