"""Whether the stages of a stored Spark ML model hold data only, judged by their metadata, which name their classes.

Spark loads a stage by the class that its metadata names: one of Python's is imported, and an SQLTransformer runs the
SQL that it was given as the user of the session.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_METADATA = "metadata"
_MODULES = ("feature", "classification", "regression", "clustering")
_RUN_SQL = ("SQLTransformer",)
_UID = re.compile(r"[\w.-]+")
_LARGEST = 5_000_000


def strange_stages(names: Mapping[str, Path]) -> list[str]:
    """What in a model's files is not known to be data: a stage's class, or metadata that cannot be read."""
    found = [
        path for name, path in names.items()
        if _METADATA in name.split("/") and not path.name.startswith((".", "_"))  # which Spark passes over
    ]  # fmt: skip
    if not found:
        return ["no metadata of a stage"]
    return sorted({strange for path in found for strange in _strange(path)})


def _strange(path: Path) -> Iterator[str]:
    try:
        if path.suffix not in ("", ".txt") or path.stat().st_size > _LARGEST:
            raise ValueError
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from _strange_stage(json.loads(line, object_pairs_hook=_once))
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"metadata that cannot be read ({path.parent.parent.name}/{path.parent.name}/{path.name})"


def _strange_stage(stage: dict[str, Any]) -> Iterator[str]:
    named = str(stage["class"])
    if named not in _known():
        yield named
    # stages are read from folders of these names
    uids = [stage["uid"], *(stage.get("paramMap") or {}).get("stageUids", ())]
    yield from (f"uid {uid!r}" for uid in uids if not _UID.fullmatch(str(uid)))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique: of two, the JVM might take another one than Python."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


@cache
def _known() -> frozenset[str]:
    """Transformers and fitted models of pyspark.ml, by the names of both sides."""
    from pyspark.ml import Model, Transformer

    known = {"org.apache.spark.ml.PipelineModel", "pyspark.ml.pipeline.PipelineModel"}
    for name in _MODULES:
        module = importlib.import_module(f"pyspark.ml.{name}")
        for exported in module.__all__:
            if exported not in _RUN_SQL and issubclass(getattr(module, exported), (Model, Transformer)):
                known |= {f"{side}.ml.{name}.{exported}" for side in ("org.apache.spark", "pyspark")}
    return frozenset(known)
