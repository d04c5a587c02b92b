"""Addresses of tables as a specification writes them: `table`, `project.table`, `root:project.table`."""

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"(?:(?P<root>[a-z][a-z0-9_]*):)?(?:(?P<project>[a-z][a-z0-9_]*)\.)?(?P<table>[a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class TableName:
    """A table of a project; `root` forces one of an environment's read-only roots."""

    project: str
    table: str
    root: str | None = None


def parse_table_name(text: str, project: str) -> TableName | None:
    """The table that `text` names in a file of `project`; None where it names none."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    return TableName(match["project"] or project, match["table"], match["root"])
