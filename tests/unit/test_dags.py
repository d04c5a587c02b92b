"""The DAG files: light to parse, one DAG for every project or model, a broken project hurts nobody else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "dags").glob("*.py"))
PARSE = """
import importlib.util, json, sys
ids, errors = {}, {}
for file in sys.argv[1:]:
    name = "unusual_prefix_" + file.rpartition("/")[2][:-3]
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        errors[file.rpartition("/")[2]] = str(error)
    for key, dag in vars(module).items():
        if key.startswith("dag_"):
            ids[dag.dag_id] = {"tasks": sorted(dag.task_ids), "tags": sorted(dag.tags), "doc": dag.doc_md,
                               "params": sorted(dag.params), "retry": [t.retry_policy is not None for t in dag.tasks],
                               "rules": {t.task_id: t.trigger_rule.value for t in dag.tasks}}
heavy = {"pyspark", "mlflow", "pandas", "great_expectations", "lightgbm", "sklearn"} & set(sys.modules)
print(json.dumps({"ids": ids, "errors": errors, "heavy": sorted(heavy)}))
"""


DAGS = {
    *(
        f"wind_parks.{name}"
        for name in ("feature_refresh", "quarantine_release", "table_maintenance", "undeclared_versions")
    ),
    *(
        f"wind_parks.energy.{name}"
        for name in (
            "training",
            "model_promotion",
            "batch_inference",
            "monitoring",
            "retraining",
            "rollback",
            "promotion_control",
            "reproduction",
            "registry_reconciliation",
        )
    ),
}


def parse(root: Path, tmp_path: Path, **environment: str) -> dict:
    """Parses a root's DAG files in a process of its own, as Airflow would."""
    import json

    files = sorted(str(file) for file in (root / "dags").glob("*.py"))
    answer = subprocess.run(
        [sys.executable, "-c", PARSE, *files], capture_output=True, text=True, check=False,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "PENSTOCK_ENV": "dev",
             "PYTHONPATH": str(REPOSITORY / "plugins"), **environment},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]
    return json.loads(answer.stdout.strip().splitlines()[-1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The repository's DAGs over the second project."""
    folder = tmp_path / "root"
    shutil.copytree(REPOSITORY / "dags", folder / "dags")
    shutil.copytree(REPOSITORY / "tests/second_root/include", folder / "include")
    return folder


def test_parsing_all_dags_imports_nothing_heavy(tmp_path: Path) -> None:
    found = parse(REPOSITORY, tmp_path)
    assert found["heavy"] == []
    assert found["errors"] == {}


def test_every_project_and_model_has_its_dags_with_tags_documentation_and_parameters(
    root: Path, tmp_path: Path
) -> None:
    found = parse(root, tmp_path)["ids"]
    assert set(found) == DAGS
    for dag_id, dag in found.items():
        assert {"wind_parks", "dev", dag_id.rpartition(".")[2]} <= set(dag["tags"])
        assert dag["doc"]
        assert {"as_of", "reason"} <= set(dag["params"])
    assert "model_version" in found["wind_parks.energy.model_promotion"]["params"]
    assert {"table", "action", "rows", "file"} <= set(found["wind_parks.quarantine_release"]["params"])
    assert "turbine_daily.validate" in found["wind_parks.feature_refresh"]["tasks"]
    assert {"dry_run", "retention"} <= set(found["wind_parks.table_maintenance"]["params"])


def test_a_follow_up_runs_where_nothing_is_new_and_is_announced_only_where_it_succeeded(
    root: Path, tmp_path: Path
) -> None:
    rules = parse(root, tmp_path)["ids"]["wind_parks.energy.monitoring"]["rules"]
    assert [rules[task] for task in ("publish", "follow_up", "announce_rollback")] == [
        "all_success", "none_failed", "all_success",
    ]  # fmt: skip


def test_a_running_task_builds_only_its_own_dag(root: Path, tmp_path: Path) -> None:
    found = parse(root, tmp_path, AIRFLOW_PARSING_CONTEXT_DAG_ID="wind_parks.energy.training")
    # `_AIRFLOW_PARSING_CONTEXT_DAG_ID` is what Airflow sets; without the underscore nothing is narrowed.
    assert len(found["ids"]) == len(DAGS)
    found = parse(root, tmp_path, _AIRFLOW_PARSING_CONTEXT_DAG_ID="wind_parks.energy.training")
    assert set(found["ids"]) == {"wind_parks.energy.training"}


def test_a_broken_project_leaves_the_others_and_shows_its_message(root: Path, tmp_path: Path) -> None:
    broken = root / "include/projects/broken"
    broken.mkdir()
    (broken / "project.yaml").write_text("name: broken\nowner: someone\ndescription: d\nsorces: {}\n")
    found = parse(root, tmp_path)
    assert len(found["ids"]) == len(DAGS)
    assert set(found["errors"]) == {"broken_projects.py"}
    assert re.search(r"broken/project\.yaml:4.*sorces", found["errors"]["broken_projects.py"])


def test_an_environment_that_does_not_exist_is_named(root: Path, tmp_path: Path) -> None:
    found = parse(root, tmp_path, PENSTOCK_ENV="qa")
    assert "qa.yaml" in found["errors"]["training.py"]


def test_airflow_finds_dags_in_every_file() -> None:
    for file in FILES:
        text = file.read_text().lower()
        assert "dag" in text, file
        assert "airflow" in text, file


def test_the_library_knows_nothing_of_the_reference_project() -> None:
    for folder in ("plugins", "dags"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            assert "flight" not in file.read_text().lower(), file
