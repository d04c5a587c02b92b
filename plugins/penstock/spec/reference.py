"""The reference pages of the YAML files, made from the models: every field, so that none can be forgotten."""

import enum
import types
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from penstock.spec.common import duration_text
from penstock.spec.environment import Environment
from penstock.spec.names import (
    CLASSIFICATION_METRICS,
    HISTORY_SUFFIX,
    MODEL_TABLE_SUFFIXES,
    PREDICTION_COLUMNS,
    REGRESSION_METRICS,
    SYSTEM_TABLES,
    TRAINING_SET_COLUMNS,
)
from penstock.spec.project import Project
from penstock.spec.suite import SuiteFile

_MADE = "<!-- Made from the models in plugins/penstock/spec/ by `penstock validate --write-schema`. -->"
_COMMON = """Durations are a number and a unit: `30s`, `30m`, `6h`, `14d`, `2w`. `${VAR}` stands for an environment
variable, `${VAR:-default}` gives it a default. Names are lower-case letters, digits and `_`, beginning with a letter.
Unknown fields are errors. `penstock validate` checks the file; the first line
`# yaml-language-server: $schema=…` lets an editor check it while you write."""


def reference_files(root: Path) -> dict[Path, str]:
    """The content of each reference page."""
    folder = root / "docs" / "reference"
    return {folder / "project.md": project_page(), folder / "environment.md": environment_page()}


def project_page() -> str:
    """The reference of project.yaml and of suites of expectations, in Markdown."""
    return f"""{_MADE}
# project.yaml

A project is a folder `include/projects/<name>/` with a `project.yaml`. {_COMMON}

Functions are named from the project's folder: `models.late.train` is `train` in `models/late.py`. Files are
relative to that folder. Tables are named `table` (of this project), `project.table`, or `root:project.table`,
which forces one of the environment's read-only roots.

{_tables(Project)}
## Names that are taken

- Tables: {_listed(SYSTEM_TABLES)}; and for each model {_listed(f"<model>{suffix}" for suffix in MODEL_TABLE_SUFFIXES)}.
  No name of a declared table may end in `{HISTORY_SUFFIX}`: there the old row versions of the table before it are kept.
- Features: {_listed(dict.fromkeys((*TRAINING_SET_COLUMNS, *PREDICTION_COLUMNS)))}.

## Metrics

Built in are {_listed(CLASSIFICATION_METRICS)} for classifications, {_listed(REGRESSION_METRICS)} for regressions.
Others are declared in `training.metrics`.

# Suites of expectations

A source or feature table names one by `expectations: expectations/<table>.yaml`.

{_tables(SuiteFile)}"""


def environment_page() -> str:
    """The reference of an environment's file, in Markdown."""
    return f"""{_MADE}
# Environments

`include/environments/<env>.yaml` describes one environment; `PENSTOCK_ENV` selects it (`dev` by default).
{_COMMON}
Secrets come from variables or from Airflow connections only. A variable that is not set is an error in the
selected environment's file, and a warning in the others', whose secrets need not be on this machine.
`PENSTOCK_HOME` always has a value.

{_tables(Environment)}"""


def _tables(model: type[BaseModel]) -> str:
    return "\n".join(_table(part) for part in _parts(model))


def _parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and those that it is made of, each once, outer ones first."""
    found: dict[type[BaseModel], None] = {model: None}
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            found.update(dict.fromkeys(_parts(part)))
    return list(found)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _table(model: type[BaseModel]) -> str:
    text = " ".join(str(model.__doc__).split())
    lines = [f"## {model.__name__}", "", text, "", "| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        cells = (f"`{field.alias or name}`", _type(field.annotation), _default(field), str(field.description))
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, types.UnionType):
        return _one_of(arguments)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        inner = _type(arguments[1])
        return "mapping" if inner == "anything" else f"mapping of name to {inner}"
    if origin is tuple:
        return "[low, high]"
    if origin is list:
        return "list" if _type(arguments[0]) == "anything" else f"list of {_type(arguments[0])}"
    return _plain_type(annotation)


def _one_of(parts: Sequence[Any]) -> str:
    """The types of a union in words; None goes without saying, and so does that a number may be whole."""
    words = dict.fromkeys(
        _type(part) for part in parts if part is not type(None) and not (part is int and float in parts)
    )
    *others, last = words
    if not others:
        return last
    return f"{', '.join(others)}{', or' if others == [_type(bool)] else ' or'} {last}"


def _plain_type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    words = {
        str: "text",
        SecretStr: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        timedelta: "duration",
    }
    return words.get(annotation, "anything")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, timedelta):
        return f"`{duration_text(value)}`"
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    if isinstance(value, list) and value:
        return f"`[{', '.join(str(item) for item in value)}]`"
    if isinstance(value, BaseModel) or value in (None, "", [], {}, PydanticUndefined):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
