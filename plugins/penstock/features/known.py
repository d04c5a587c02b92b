"""When the values of a feature table's rows became known: the names that refresh writes and joins read."""

from penstock.spec.names import HISTORY_SUFFIX

KNOWN_AT = "_known_at"
KNOWN_UNTIL = "_known_until"


def history_name(table: str) -> str:
    """The table that keeps the row versions of `table` which were corrected or removed."""
    return f"{table}{HISTORY_SUFFIX}"
