"""Schemas for Python workers over Spark Connect."""

from typing import TYPE_CHECKING

from penstock.features.inputs import quote

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


def ddl(schema: "StructType") -> str:
    """A schema as text, without the collation that Connect gives strings: deltalake cannot read such tables."""
    from pyspark.sql.types import StringType

    return ", ".join(
        f"{quote(field.name)} "
        + ("string" if isinstance(field.dataType, StringType) else str(field.dataType.simpleString()))
        for field in schema.fields
    )
