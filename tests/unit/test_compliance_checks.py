"""The compliance checks: their names, documents, severities; which pickles are found; which branches hold a commit."""

import importlib
import os
import pickle
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException

from penstock.home import state_dir
from penstock.lakehouse.git import code_state, reviewed_on, uncommitted
from penstock.registry.compliance.gate import every_check
from penstock.registry.compliance.own_environment import prune_environments
from penstock.registry.compliance.reference import checks_page
from penstock.registry.compliance.registered import CHECKS
from penstock.spec.compliance import Compliance, EnvironmentCompliance, Severity
from penstock.spec.environment import Approval, Environment, LakehouseSpec
from penstock.spec.names import COMPLIANCE_CHECKS, ENVIRONMENTS_COMPLIANCE_CHECKS, FIXED_COMPLIANCE_CHECKS
from penstock.training.model_folder import ModelFiles, model_digest
from penstock.training.origins import code_tags
from penstock.training.serialisation import SWITCH, as_data, runs_code

PAGE = Path(__file__).parents[2] / "docs/reference/compliance-checks.md"


def environment(name: str, **severities: str) -> Environment:
    return Environment(
        name=name, description="x", lakehouse=LakehouseSpec(root="x"), schedules=False,
        approval=Approval(mode="automatic"), compliance=EnvironmentCompliance(severities=severities),
    )  # fmt: skip


def test_the_names_that_a_specification_may_use_are_those_of_the_checks():
    assert set(CHECKS) == set(COMPLIANCE_CHECKS)
    assert {name for name, check in CHECKS.items() if check.fixed} == set(FIXED_COMPLIANCE_CHECKS)
    assert {name for name, check in CHECKS.items() if check.environments} == set(ENVIRONMENTS_COMPLIANCE_CHECKS)
    assert [check.on_loaded for check in every_check()] == sorted(check.on_loaded for check in every_check())
    assert all(len(check.document) > 50 for check in every_check())


def test_the_page_of_the_checks_is_made_from_them():
    table = checks_page()
    assert table in PAGE.read_text(encoding="utf-8"), "put the output of `penstock checks --markdown` into the page"


def test_the_environment_has_the_last_word_on_a_severity_then_the_project_then_the_check():
    origin, latency = CHECKS["origin"], CHECKS["latency"]
    assert origin.severity_in(environment("dev"), Compliance()) == (Severity.WARN, "default in dev")
    assert origin.severity_in(environment("prod"), Compliance()) == (Severity.BLOCK, "default")
    asked = Compliance(severities={"origin": "off", "latency": "off", "loads": "off"})
    assert origin.severity_in(environment("prod", origin="block"), asked) == (Severity.BLOCK, "environment prod")
    assert origin.severity_in(environment("prod"), asked) == (Severity.BLOCK, "default"), "no project switches it off"
    assert origin.severity_in(environment("staging", origin="warn"), asked) == (Severity.WARN, "environment staging")
    assert origin.severity_in(environment("dev"), asked) == (Severity.OFF, "project.yaml")
    assert latency.severity_in(environment("prod"), asked) == (Severity.OFF, "project.yaml")
    assert CHECKS["loads"].severity_in(environment("dev", loads="warn"), asked) == (Severity.BLOCK, "always")


def model(folder: Path, flavor: str, **settings: object) -> ModelFiles:
    flavors = {flavor: settings, "python_function": {"loader_module": f"mlflow.{flavor}"}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
    return ModelFiles(folder, "models:/m/1")


@pytest.mark.parametrize(
    ("flavor", "settings", "why"),
    [
        ("lightgbm", {"model_class": "lightgbm.basic.Booster"}, None),
        ("lightgbm", {"model_class": "lightgbm.sklearn.LGBMClassifier", "serialization_format": "skops"}, None),
        ("lightgbm", {"model_class": "lightgbm.sklearn.LGBMClassifier"}, "stored as pickle"),
        ("lightgbm", {"model_class": "lightgbm.sklearn.Booster"}, "none of lightgbm"),
        ("lightgbm", {"model_class": "lightgbm.sklearn.Booster"}, "stored as pickle"),
        ("lightgbm", {"model_class": None}, "stored as pickle"),
        ("lightgbm", {"data": "model.lgb"}, None),
        ("lightgbm", {"data": "../model.lgb"}, "files elsewhere"),
        ("xgboost", {"model_class": "xgboost.sklearn.XGBClassifier"}, None),
        ("xgboost", {"model_class": "xgboost.callback.TrainingCheckPoint"}, "none of xgboost"),
        ("xgboost", {"serialization_format": "skops"}, "stored as skops"),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["sklearn.tree._tree.Tree"]}, None),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["os.system"]}, "os.system"),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["builtins.exec"]}, "builtins.exec"),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": "os.system"}, "no list"),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["builtins.map"]}, "builtins.map"),
        (
            "sklearn",
            {"serialization_format": "skops", "skops_trusted_types": ["sklearn.utils.validation.check_array"]},
            "check_array",
        ),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["sklearn.svm._classes.SVC"]}, None),
        ("sklearn", {"serialization_format": "pickle"}, "stored as pickle"),
        ("sklearn", {}, "stored as pickle"),
        ("pytorch", {"serialization_format": "pt2"}, None),
        ("pytorch", {"serialization_format": "pickle"}, "stored as pickle"),
        ("statsmodels", {}, "nothing is known"),
    ],
)
def test_formats_that_run_code_when_they_are_loaded_are_known(tmp_path, flavor, settings, why):
    found = runs_code(model(tmp_path, flavor, **settings))
    assert any(why in reason for reason in found) if why else not found


class Command:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_pickle_under_a_class_that_looks_like_lightgbms_text_is_found(tmp_path):
    import mlflow.lightgbm

    trace, folder = tmp_path / "ran", tmp_path / "model"
    folder.mkdir()
    (folder / "model.lgb").write_bytes(pickle.dumps(Command(trace), protocol=0))
    files = model(folder, "lightgbm", data="model.lgb", model_class="lightgbm.sklearn.Booster")
    assert any("stored as pickle" in reason for reason in runs_code(files))
    with pytest.raises(MlflowException, match="disallowed"), as_data(files, trusted=False):
        mlflow.lightgbm.load_model(str(folder))
    assert not trace.exists()
    mlflow.lightgbm.load_model(str(folder))
    assert trace.exists(), "it would have run"


def test_a_function_of_scikit_learn_that_skops_would_have_to_trust_is_found(tmp_path):
    import skops.io
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.utils import _testing

    runs_its_input = CountVectorizer(analyzer=_testing.assert_run_python_script_without_output)
    skops.io.dump(runs_its_input, tmp_path / "model.skops")
    types = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    settings = {"pickled_model": "model.skops", "serialization_format": "skops", "skops_trusted_types": types}
    (reason,) = runs_code(model(tmp_path, "sklearn", **settings))
    assert "assert_run_python_script_without_output" in reason


def test_the_switch_of_mlflow_is_set_while_data_is_loaded_and_only_then(tmp_path, monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    archive = model(tmp_path, "pytorch", serialization_format="pt2", note="skops")
    with as_data(archive, trusted=False):
        assert os.environ[SWITCH] == "false"
    assert SWITCH not in os.environ
    with as_data(archive, trusted=True):
        assert SWITCH not in os.environ
    monkeypatch.setenv(SWITCH, "true")
    with pytest.raises(OSError, match="no file"), as_data(archive, trusted=False):
        raise OSError("no file")
    assert os.environ[SWITCH] == "true"
    with as_data(model(tmp_path, "sklearn", serialization_format="skops"), trusted=False):
        assert os.environ[SWITCH] == "true", "skops could not be loaded otherwise"


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ('{"class":"org.apache.spark.ml.feature.VectorAssembler","uid":"a_1"}', None),
        ('{"class":"pyspark.ml.pipeline.PipelineModel","uid":"p","paramMap":{"stageUids":["a_1"]}}', None),
        ('{"class":"org.apache.spark.ml.feature.SQLTransformer","uid":"a_1"}', "SQLTransformer"),
        ('{"class":"pyspark.ml.evil.Stage","uid":"a_1"}', "evil.Stage"),
        ('{"class":"org.apache.spark.ml.PipelineModel","uid":"p","paramMap":{"stageUids":["../x"]}}', "uid '../x'"),
        ('{"class":"org.apache.spark.ml.PipelineModel","class":"org.apache.spark.ml.PipelineModel"}', "cannot be read"),
        ("no json", "cannot be read"),
        (None, "no metadata"),
    ],
)
def test_the_stages_of_a_spark_model_are_read_from_their_metadata(tmp_path, stage, why):
    if stage is not None:
        place = tmp_path / "sparkml/stages/0_a_1/metadata/part-00000"
        place.parent.mkdir(parents=True)
        place.write_text(stage)
    found = runs_code(model(tmp_path, "spark", model_data="sparkml"))
    assert any(why in reason for reason in found) if why else not found


def test_the_digest_is_of_names_and_contents_and_not_of_what_the_registry_adds(tmp_path):
    (tmp_path / "a").write_text("1")
    before = model_digest(tmp_path)
    (tmp_path / "registered_model_meta").write_text("version 3")
    assert model_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert model_digest(tmp_path) != before


def test_environments_that_were_not_used_lately_are_removed_but_for_the_newest(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    assert prune_environments() == []
    folder, days = state_dir() / "model_environments", 86400
    for name, age in (("today", 0), ("lately", 2), ("old", 3), ("older", 4), ("half.made", 5), ("making.now", 0)):
        (folder / name / "bin").mkdir(parents=True)
        moment = time.time() - age * days
        os.utime(folder / name, (moment, moment))
    assert prune_environments(keep=2, dry_run=True) == ["half.made", "old", "older"]
    assert prune_environments(keep=2) == ["half.made", "old", "older"]
    assert sorted(path.name for path in folder.iterdir()) == ["lately", "making.now", "today"]
    assert prune_environments(keep=0) == ["lately"], "that of today may be in use"


def git(folder: Path, *words: str) -> str:
    about = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    done = subprocess.run(["git", "-C", str(folder), *about, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def test_reviewed_branches_are_those_of_the_remote_where_it_has_them(tmp_path, monkeypatch):
    remote, here = tmp_path / "remote", tmp_path / "here"
    remote.mkdir()
    git(remote, "init", "-q", "-b", "main")
    reviewed = commit(remote)
    git(tmp_path, "clone", "-q", str(remote), str(here))
    git(here, "checkout", "-q", "-b", "release/7")
    (here / "a").write_text("x")
    git(here, "add", "a")
    released = commit(here)
    git(here, "checkout", "-q", "main")
    (here / "b").write_text("x")
    git(here, "add", "b")
    unpushed = commit(here)
    assert reviewed_on(here, reviewed, ["main", "release/*"]) == ("main", "release/7")
    assert reviewed_on(here, f"{reviewed}-dirty", ["main"]) == ("main",)
    assert reviewed_on(here, released, ["main", "release/*"]) == ("release/7",), "the remote has no such branch"
    assert reviewed_on(here, unpushed, ["main"]) == (), "its own main stands in for no reviewed one"
    assert reviewed_on(here, "0" * 40, ["main"]) is None
    monkeypatch.setenv("PENSTOCK_CODE_VERSION", reviewed)
    monkeypatch.setenv("PENSTOCK_CODE_BRANCH", "main")
    elsewhere = tmp_path / "image"
    elsewhere.mkdir()
    assert reviewed_on(elsewhere, reviewed, ["release*", "main"]) == ("main",)
    assert reviewed_on(elsewhere, reviewed, ["release*"]) == (), "it was built from another branch"
    assert reviewed_on(elsewhere, released, ["main"]) is None


def test_uncommitted_code_anywhere_in_the_repository_counts_and_is_named(tmp_path):
    project = tmp_path / "include/projects/flights"
    library, neighbour = tmp_path / "plugins/penstock/train.py", tmp_path / "include/projects/aviation/aircraft.sql"
    for file in (project / "project.yaml", library, neighbour, tmp_path / "docs/guide.md"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("as it is")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    head = commit(tmp_path)
    for name in ("docs/conf.py", "tests/test_it.py", "notes.md", "lakehouse/flights/_delta_log/0.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("new")
    assert uncommitted(project) == ()
    assert code_state(project).version == head
    for file in (library, neighbour, project / "airports.csv", tmp_path / "requirements.txt"):
        file.write_text("changed, or new")
    found = ("include/projects/aviation/aircraft.sql", "include/projects/flights/airports.csv",
             "plugins/penstock/train.py", "requirements.txt")  # fmt: skip
    assert uncommitted(project) == found
    tags = code_tags(code_state(project))
    assert tags["penstock.code"] == f"{head}-dirty"
    assert tags["penstock.uncommitted"].startswith("include/projects/aviation/aircraft.sql, ")


def test_every_module_of_the_registry_can_be_imported():
    """mypy passes over a module that is missing."""
    plugins = Path(__file__).parents[2] / "plugins"
    for file in sorted((plugins / "penstock/registry").rglob("*.py")):
        importlib.import_module(".".join(file.relative_to(plugins).with_suffix("").parts))
