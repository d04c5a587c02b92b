"""The compliance checks: their names, documents, severities; which pickles are found; which branches hold a commit."""

import importlib
import subprocess
from pathlib import Path

import pytest
import yaml

from penstock.lakehouse.git import reviewed_on
from penstock.registry.compliance.gate import every_check
from penstock.registry.compliance.reference import checks_page
from penstock.registry.compliance.registered import CHECKS
from penstock.spec.compliance import Compliance, EnvironmentCompliance, Severity
from penstock.spec.environment import Approval, Environment, LakehouseSpec
from penstock.spec.names import COMPLIANCE_CHECKS, FIXED_COMPLIANCE_CHECKS
from penstock.training.model_folder import ModelFiles, model_digest
from penstock.training.serialisation import runs_code

PAGE = Path(__file__).parents[2] / "docs/reference/compliance-checks.md"


def environment(name: str, **severities: str) -> Environment:
    return Environment(
        name=name, description="x", lakehouse=LakehouseSpec(root="x"), schedules=False,
        approval=Approval(mode="automatic"), compliance=EnvironmentCompliance(severities=severities),
    )  # fmt: skip


def test_the_names_that_a_specification_may_use_are_those_of_the_checks():
    assert set(CHECKS) == set(COMPLIANCE_CHECKS)
    assert {name for name, check in CHECKS.items() if check.fixed} == set(FIXED_COMPLIANCE_CHECKS)
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
        ("xgboost", {"model_class": "xgboost.sklearn.XGBClassifier"}, None),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["sklearn.tree.Tree"]}, None),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["os.system"]}, "os.system"),
        ("sklearn", {"serialization_format": "skops", "skops_trusted_types": ["builtins.exec"]}, "builtins.exec"),
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


def test_the_digest_is_of_names_and_contents_and_not_of_what_the_registry_adds(tmp_path):
    (tmp_path / "a").write_text("1")
    before = model_digest(tmp_path)
    (tmp_path / "registered_model_meta").write_text("version 3")
    assert model_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert model_digest(tmp_path) != before


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
    assert reviewed_on(elsewhere, reviewed, ["main"]) == ("main",)
    assert reviewed_on(elsewhere, released, ["main"]) is None


def test_every_module_of_the_registry_can_be_imported():
    """mypy passes over a module that is missing."""
    plugins = Path(__file__).parents[2] / "plugins"
    for file in sorted((plugins / "penstock/registry").rglob("*.py")):
        importlib.import_module(".".join(file.relative_to(plugins).with_suffix("").parts))
