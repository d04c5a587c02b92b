"""JSON Schemas of the YAML files, for editors: made from the models, kept in include/schema/."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from penstock.spec.common import duration_text
from penstock.spec.environment import Environment
from penstock.spec.project import Project
from penstock.spec.suite import SuiteFile

_MODELS: dict[str, type[BaseModel]] = {
    "project": Project,
    "environment": Environment,
    "expectations": SuiteFile,
}
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NOT_TEXT = ("boolean", "integer", "number")


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Durations as people write them, not in ISO 8601."""
        return duration_text(dft) if hasattr(dft, "total_seconds") else super().encode_default(dft)


def schema_files(root: Path) -> dict[Path, str]:
    """The content of each schema file of a root."""
    return {
        root / "include" / "schema" / f"{name}.schema.json": json.dumps(_schema(model), indent=2, ensure_ascii=False)
        + "\n"
        for name, model in _MODELS.items()
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Generator)
    if model is not SuiteFile:
        _accept_variables(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _accept_variables(schema: Any) -> None:
    """Lets `${VAR}` stand where a number, a truth value or one of several words is expected."""
    if isinstance(schema, list):
        for item in schema:
            _accept_variables(item)
    if not isinstance(schema, dict):
        return
    for name, part in schema.get("properties", {}).items():
        if part.get("type") in _NOT_TEXT or "enum" in part:
            plain = {key: part.pop(key) for key in list(part) if key not in ("title", "description", "default")}
            schema["properties"][name] = {**part, "anyOf": [plain, _VARIABLE]}
    for part in schema.values():
        _accept_variables(part)
