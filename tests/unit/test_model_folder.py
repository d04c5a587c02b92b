"""A model's files before anything is loaded: a feature_spec.json by which nothing could be asked is named as that."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.training.model_folder import ModelFiles, Unusable

SPEC = {
    "project": "shop", "task": "classification", "trained_until": "2024-01-12T00:00:00Z",
    "entity": {"table": None, "keys": ["customer"], "prediction_time": "asked_at", "features": ["age"]},
    "lookups": [{"table": "orders", "keys": {"customer": "customer"}, "features": ["spent"], "max_age": "2d"}],
    "features": [{"name": "age", "type": "double", "source": "entity", "categories": None}],
}  # fmt: skip


def read(folder: Path, spec: Any) -> dict[str, Any]:
    file = folder / "extra_files" / "feature_spec.json"
    file.parent.mkdir()
    file.write_text(json.dumps(spec))
    return ModelFiles(folder, "models:/m-1").feature_spec


def test_a_whole_one_is_read_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, SPEC) == SPEC


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({**SPEC, "trained_until": "soon"}, "trained_until: .*'soon' is no timestamp"),
        ({**SPEC, "trained_until": "2999-01-01"}, "trained_until: .*lies in the future"),
        ({name: value for name, value in SPEC.items() if name != "lookups"}, "lookups: Field required"),
        (
            {**SPEC, "lookups": [{"table": "orders", "keys": {"customer": "customer"}}]},
            r"lookups\.0\.features: Field req",
        ),
        ({**SPEC, "entity": {"table": "visits"}}, r"entity\.keys: Field required; entity\.prediction_time: Field"),
        ({**SPEC, "task": "guessing"}, "task: "),
        ({**SPEC, "features": [{"name": "age"}]}, "KeyError: 'type'"),
        ([SPEC], "dictionary"),
    ],
)
def test_one_by_which_nothing_can_be_asked_is_named_with_the_place(tmp_path: Path, spec: Any, said: str) -> None:
    with pytest.raises(Unusable, match=rf"feature_spec\.json cannot be used \(.*{said}"):
        read(tmp_path, spec)
