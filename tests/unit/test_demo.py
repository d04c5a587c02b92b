"""What the demo replays is declared, and a declaration that is wrong is refused."""

from pathlib import Path

import pytest

from penstock.demo import read_replay
from penstock.errors import SpecError
from penstock.spec.loading import load_project

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_demo_replays_a_model_that_exists_forward_in_time() -> None:
    replay = read_replay(REPOSITORY)
    assert replay.model in load_project(REPOSITORY, replay.project).spec.models
    assert replay.moments == sorted(set(replay.moments))
    assert len(replay.moments) >= 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("project: a\nmodel: b\nmoments: [2013-05-01T00:00:00Z]\n", "moments"),
        ("project: a\nmoments: []\n", "model"),
        ("project: [", "demo.yaml"),
    ],
)
def test_a_wrong_declaration_names_the_file_and_the_field(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include/demo.yaml").write_text(text)
    with pytest.raises(SpecError, match=complaint) as caught:
        read_replay(tmp_path)
    assert str(tmp_path / "include/demo.yaml") in str(caught.value)
