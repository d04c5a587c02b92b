"""The types of what Python workers hand back over Spark Connect."""

from typing import TYPE_CHECKING

from penstock.spec.sql import quote

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.types import StructType


def plain_strings(frame: "DataFrame", schema: "StructType") -> "DataFrame":
    """The output of Python workers with strings as everywhere else.

    Connect gives them an explicit collation, and deltalake cannot read a table that has one.
    """
    from pyspark.sql.types import StringType

    return frame.selectExpr(
        *(
            f"CAST({quote(field.name)} AS string) AS {quote(field.name)}"
            if isinstance(field.dataType, StringType)
            else quote(field.name)
            for field in schema.fields
        )
    )
