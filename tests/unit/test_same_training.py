"""What counts as the same training: code by its content, wherever it stands; and how often Git is asked."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

import penstock
from penstock.features.training_set import TrainingSet
from penstock.gates import Outcome
from penstock.lakehouse.git import code_state
from penstock.lakehouse.records import record
from penstock.registry.differences import check_surroundings
from penstock.spec.imported import imported_code
from penstock.training.runs import run_key
from penstock.training.surroundings import Surroundings
from penstock.workspace import Lineage, Workspace
from tests.unit.spec_project import Root, write_root

REPOSITORY = Path(__file__).parents[2]


def key(root: Path) -> str:
    """The key of a training in one DAG run."""
    workspace = Workspace.open("dev", root).with_(lineage=Lineage("one__run"))
    data = TrainingSet("shop.t", 0, "/t", "2024-04-01T00:00:00Z", {}, 3, "", "", None)
    return run_key(workspace, workspace.project("shop"), "comes_back", data)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, beside the root, with modules of the team."""
    folder = tmp_path / "lib"
    for name, text in {
        "house/__init__.py": "", "house/losses.py": "from .deep.base import SHARE\nfrom . import prices\n",
        "house/deep/base.py": "import rates\n", "house/prices.py": "", "house/other.py": "", "rates.py": "",
        "beside.py": "",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A project whose model's code imports from there."""
    found = write_root(tmp_path / "root")
    found.edit("models/back.py", "import functools\n", "import functools\nfrom house.losses import SHARE\n")
    return found


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("house/losses.py", True), ("house/__init__.py", True), ("house/deep/base.py", True), ("house/prices.py", True),
        ("rates.py", True), ("house/other.py", False), ("beside.py", False),
    ],
)  # fmt: skip
def test_what_a_project_imports_from_elsewhere_counts_by_its_content(
    root: Root, elsewhere: Path, file: str, counts: bool
) -> None:
    before = key(root.path)
    assert key(root.path) == before
    (elsewhere / file).write_text((elsewhere / file).read_text() + "# changed\n")
    assert (key(root.path) != before) is counts


def test_what_is_imported_is_named_with_what_it_is(root: Root, elsewhere: Path) -> None:
    root.write(
        "models/more.py",
        "import json, lightgbm.basic\nimport penstock.errors, no_such_package\nfrom sklearn import tree\n"
        "from . import back\n",
    )
    root.write("models/broken.py", "import rates as\n")
    found = imported_code(root.file(""))
    assert found.keys() == {
        "house", "house.losses", "house.deep.base", "house.prices", "rates", "lightgbm", "sklearn", "no_such_package",
    }  # fmt: skip
    assert (found["lightgbm"], found["sklearn"], found["no_such_package"]) == (
        f"lightgbm=={version('lightgbm')}", f"scikit-learn=={version('scikit-learn')}", "missing",
    )  # fmt: skip


def test_what_decides_beside_a_projects_code_is_kept_with_a_run_and_named_where_it_changed(
    root: Root, elsewhere: Path
) -> None:
    root.write("models/weights.json", "[1, 2]")
    root.write("models/__pycache__/back.pyc", "")
    before = Surroundings.from_dict(json.loads(json.dumps(Surroundings.here(root.file("")).to_dict())))
    assert before.code is not None
    modules = {f"module {name}" for name in ("house", "house.losses", "house.deep.base", "house.prices", "rates")}
    assert before.code.keys() == {*modules, "file models/weights.json", "Penstock's code"}
    assert check_surroundings(before, Surroundings.here(root.file("")), []).outcome is Outcome.PASS
    (elsewhere / "rates.py").write_text("RATE = 2\n")
    root.write("models/weights.json", "[1, 3]")
    here = Surroundings.here(root.file(""))
    check = check_surroundings(before, here, ["lightgbm"])
    assert check.outcome is Outcome.WARN
    weights, rates = "file models/weights.json", "module rates"
    assert check.detail == (
        f"otherwise than in training: {weights} {before.code[weights]} (now {here.code[weights]}), "
        f"{rates} {before.code[rates]} (now {here.code[rates]})"
    )
    former = replace(before, code=None)  # of a version that was trained before this was kept
    check = check_surroundings(former, here, ["lightgbm"])
    assert check.outcome is Outcome.PASS
    assert "Its run does not say what Penstock's code, imported modules and other files were" in check.detail


CHANGING = """
import sys
from pathlib import Path

import penstock
from tests.unit.test_same_training import key

library, root = Path(penstock.__file__).parent, Path(sys.argv[1])
before = [key(root), key(root)]
file = library / "training/fitting.py"
file.write_text(file.read_text() + "# changed\\n")
print(library, *before, key(root))
"""


def test_penstocks_own_code_counts(tmp_path: Path) -> None:
    copy = tmp_path / "plugins"
    shutil.copytree(Path(penstock.__file__).parent, copy / "penstock", ignore=shutil.ignore_patterns("__pycache__"))
    root = write_root(tmp_path / "root").path
    done = subprocess.run(
        [sys.executable, "-c", CHANGING, str(root)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), str(REPOSITORY)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    library, first, again, changed = done.stdout.split()
    assert library == str(copy / "penstock")
    assert first == again != changed


def test_a_machine_without_git_writes_what_the_image_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state(REPOSITORY).version is None
    monkeypatch.setenv("PENSTOCK_CODE_VERSION", "c0ffee")
    assert code_state(REPOSITORY).version == "c0ffee"
    assert record(datetime(2024, 4, 1, tzinfo=UTC), folder=REPOSITORY).code == "c0ffee"
