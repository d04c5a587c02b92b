"""The shape of a suite of expectations: `expectations/<table>.yaml`."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from penstock.spec.common import Spec, Text

# What Great Expectations 1.24 knows and a batch alone can answer; a test holds this equal to its registry,
# which takes seconds to import.
EXPECTATIONS = frozenset(
    {
        "expect_column_distinct_values_to_be_in_set",
        "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set",
        "expect_column_kl_divergence_to_be_less_than",
        "expect_column_max_to_be_between",
        "expect_column_mean_to_be_between",
        "expect_column_median_to_be_between",
        "expect_column_min_to_be_between",
        "expect_column_most_common_value_to_be_in_set",
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_pair_values_to_be_in_set",
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_quantile_values_to_be_between",
        "expect_column_stdev_to_be_between",
        "expect_column_sum_to_be_between",
        "expect_column_to_exist",
        "expect_column_type_to_be",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_dateutil_parseable",
        "expect_column_values_to_be_decreasing",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_be_null",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_match_json_schema",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_be_outliers",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_compound_columns_to_be_unique",
        "expect_multicolumn_sum_to_equal",
        "expect_multicolumn_values_to_be_equal",
        "expect_select_column_values_to_be_unique_within_record",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
    }
)

_COLUMN_ARGUMENTS = (
    ("expect_column_pair_", ("column_A", "column_B")),
    ("expect_compound_columns_", ("column_list",)),
    ("expect_multicolumn_", ("column_list",)),
    ("expect_select_column_", ("column_list",)),
    ("expect_column_", ("column",)),
)


class Severity(StrEnum):
    """What a failure does: `critical` stops the table, `warning` quarantines the rows that failed."""

    CRITICAL = "critical"
    WARNING = "warning"


class WithinMostly(StrEnum):
    """What becomes of failing rows that `mostly` accepts: `keep` lets them on, `quarantine` sets them apart."""

    KEEP = "keep"
    QUARANTINE = "quarantine"


class Expectation(Spec):
    """One expectation, by its name in Great Expectations."""

    type: Text = Field(description="its name, such as expect_column_values_to_be_between")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="its arguments, such as column and min_value")
    severity: Severity = Field(
        default=Severity.CRITICAL,
        description="critical stops the table; warning sets rows that fail apart, and reports a failure of the table",
    )
    within_mostly: WithinMostly = Field(
        default=WithinMostly.KEEP,
        description="failing rows that kwargs.mostly accepts: keep lets them on, quarantine sets them apart",
    )
    description: str = Field(default="", description="what a failure means, for the person who reads it")


class History(Spec):
    """A batch held against the table's own earlier batches. What is not named is not judged."""

    volume: Severity | None = Field(default=None, description="rows a day since the batch before, both ways")
    freshness: Severity | None = Field(default=None, description="how far the newest event time lies behind as_of")
    nulls: Severity | None = Field(default=None, description="share of nulls of each column, upwards")
    range: Severity | None = Field(default=None, description="least and greatest value of each numeric column")
    batches: int = Field(default=30, ge=3, le=1000, description="how many of the newest batches are compared with")
    minimum_batches: int = Field(default=7, ge=3, le=1000, description="fewer earlier batches than that judge nothing")
    tolerance: float = Field(
        default=3.5, gt=0, description="how many robust standard deviations (1.4826 MAD) from the median are usual"
    )

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.minimum_batches > self.batches:
            raise ValueError(
                f"minimum_batches is {self.minimum_batches}, more than batches ({self.batches}): write at most as many"
            )
        return self


class SuiteFile(Spec):
    """The expectations of one table."""

    description: str = Field(default="", description="what the suite is for")
    acceptable_bad_share: float = Field(
        default=1.0, ge=0, le=1, description="a larger share of rows that fail warnings stops the table"
    )
    expectations: Annotated[list[Expectation], Field(min_length=1, description="what must hold, in order")]
    history: History | None = Field(default=None, description="checks against the table's own earlier batches")


def column_arguments(expectation_type: str) -> tuple[str, ...]:
    """The arguments by which an expectation is told its columns."""
    return next((names for prefix, names in _COLUMN_ARGUMENTS if expectation_type.startswith(prefix)), ())
