"""What a version must comply with, whatever its quality: every fault has a verdict that says what to do."""

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from penstock.errors import GateError, ServiceError
from penstock.gates import Outcome
from penstock.home import state_dir
from penstock.inference.batch import score_batch
from penstock.lakehouse.small_tables import read
from penstock.registry.adoption import adopt_version, adoption_of
from penstock.registry.audit import AuditLog
from penstock.registry.candidates import load_version
from penstock.registry.comparison import compare_with_production
from penstock.registry.compliance import check_compliance
from penstock.registry.compliance.gate import open_subject
from penstock.registry.compliance.registered import CHECKS
from penstock.registry.compliance.serialisation import may_be_loaded
from penstock.registry.compliance.trial import try_model
from penstock.registry.former import check_former
from penstock.registry.promotion import promote
from penstock.registry.stages import Stage, stage_of
from penstock.registry.undeclared import judge_undeclared, undeclared_models
from penstock.spec.compliance import EnvironmentCompliance
from penstock.spec.names import COMPLIANCE_CHECKS
from penstock.training import scoring
from penstock.training.errors import ScoringError
from penstock.training.origins import UNCOMMITTED, OriginKind, read_origins, write_origin
from penstock.training.scoring import load_scorer_from
from penstock.ui.mlflow_rest import undeclared_here
from penstock.workspace import Connections
from tests.integration.plant import FIRST, MODEL, SECOND, checks
from tests.integration.relay import relay

ALL_BUT = {"own_environment"}  # off unless asked for
UNTRIED = {"scores", "input_example", "latency"}  # warn where a version is not loaded


def failing(verdict) -> set[str]:
    """The names of the checks that failed."""
    return {name for name, outcome in checks(verdict).items() if outcome == "fail"}


def found(verdict, name: str):
    """One check of a verdict."""
    return next(check for check in verdict.checks if check.name == name)


def edit_compliance(plant, **values: object) -> None:
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(compliance=values))


def test_a_version_that_the_pipeline_trained_passes_every_check(plant):
    version = plant.add("second")
    verdict = check_compliance(*plant.about, version, SECOND)
    assert set(checks(verdict)) == {*COMPLIANCE_CHECKS} - ALL_BUT | {"switched_off"}
    loud = {name: outcome for name, outcome in checks(verdict).items() if outcome != "pass"}
    assert loud.keys() <= {"model_card"}, verdict.to_markdown()
    assert found(verdict, "origin").detail.endswith("reviewed on main")
    assert found(verdict, "features_fresh").evidence == {"tables": {}, "severity": "warn", "severity_by": "default"}
    assert "own_environment (default)" in found(verdict, "switched_off").detail
    tags = plant.registered.version(version).tags
    assert tags["penstock.compliance"] == "pass"
    assert tags["penstock.origin"].startswith("trained here from ")
    assert found(verdict, "latency").evidence["row_milliseconds"] > 0
    assert found(verdict, "size").evidence["bytes"] > 1000


def _no_signature(folder: Path) -> None:
    spec = yaml.safe_load((folder / "MLmodel").read_text())
    del spec["signature"]
    (folder / "MLmodel").write_text(yaml.safe_dump(spec))


def _edit_features(folder: Path, change: Callable[[dict], None]) -> None:
    file = folder / "extra_files" / "feature_spec.json"
    spec = json.loads(file.read_text())
    change(spec)
    file.write_text(json.dumps(spec))


def _needs_another(table: str) -> Callable[[Path], None]:
    return lambda folder: _edit_features(folder, lambda spec: spec["features"][-1].update(source=f"{table}.heat"))


def _needs_weight(folder: Path) -> None:
    _edit_features(folder, lambda spec: spec["features"].append({**spec["features"][1], "name": "weight"}))


_FEATURES = {"features_declared", "features_in_lakehouse"}
_NOT_LOADED = {"safe_serialisation", "loads"}
_NO_SPEC = {"signature", *_FEATURES, "feature_definitions", "loads"}


@pytest.mark.parametrize(
    ("tamper", "faults", "reason"),
    [
        (_no_signature, {"signature"}, "the model has no signature"),
        (lambda f: (f / "model.lgb").write_text("nonsense"), {"loads"}, "cannot load it: LightGBMError"),
        (lambda f: (f / "model.lgb").unlink(), {"loads"}, "a clean process cannot load it"),
        (lambda f: (f / "MLmodel").unlink(), _NOT_LOADED | {"signature"}, "has no MLmodel"),
        (
            lambda f: (f / "extra_files" / "feature_spec.json").unlink(), _NO_SPEC,
            "was not trained by Penstock",
        ),
        (
            lambda f: _edit_features(f, lambda spec: spec.pop("trained_until")), _NO_SPEC,
            "feature_spec.json cannot be used (ValueError: trained_until: Field required): train it again",
        ),
        (_needs_another("dreams"), _FEATURES, "does not declare PROJECT.dreams.heat"),
        (_needs_weight, {"signature", "scores"} | _FEATURES, "PROJECT.jobs.weight"),
    ],
    ids=[
        "no signature", "broken", "no model file", "no MLmodel", "no feature_spec", "half a feature_spec",
        "unknown table", "unknown column",
    ],
)  # fmt: skip
def test_a_version_with_a_fault_is_archived_with_the_reason(plant, tmp_path, tamper, faults, reason):
    version = plant.add_tampered(tamper, tmp_path)
    verdict, _ = plant.through_gates(version)
    assert failing(verdict) == faults, verdict.to_markdown()
    assert checks(verdict)["origin"] == "warn", "tampered files are not what training made"
    registered = plant.registered.version(version)
    assert registered.tags["penstock.compliance"] == "fail"
    assert reason.replace("PROJECT", plant.project) in registered.tags["penstock.compliance_reason"]
    assert registered.tags["penstock.stage"] == "Archived"
    assert "### compliance: fail" in registered.description
    row = AuditLog(*plant.about).read().latest(version)
    assert row.to_stage is Stage.ARCHIVED
    assert reason.replace("PROJECT", plant.project) in row.reason
    assert plant.registered.aliases() == {}


def test_a_missing_tag_and_description_are_named_together(plant, tmp_path):
    missing = ("penstock.code", "penstock.as_of")
    tags = {k: v for k, v in plant.trained.versions["second"].tags.items() if k not in missing}
    version = plant.add_tampered(lambda folder: None, tmp_path, tags=tags, description=None)
    verdict, _ = plant.through_gates(version)
    assert failing(verdict) == {"description", "required_tags"}
    assert "lacks the required tag(s) penstock.as_of, penstock.code" in verdict.reason
    again = check_compliance(*plant.about, version, SECOND)
    assert checks(again) == checks(verdict), "its own section is no description"


def test_a_vanished_feature_table_undeclared_limits_and_a_changed_type(plant):
    def change(spec: dict) -> None:
        spec["models"][MODEL].update(limits="")
        spec["sources"]["jobs"]["columns"].update(load="float")

    version = plant.add("second")
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.project / "machine_daily")
    plant.edit(change)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert failing(verdict) == {"features_in_lakehouse"}
    assert f"{plant.project}.machine_daily (no such table)" in verdict.reason
    assert checks(verdict)["owner_and_limits"] == checks(verdict)["features_declared"] == "warn"
    assert "jobs.load (was double, is float)" in verdict.reason


def test_the_verdict_is_written_once_into_the_description_of_its_author(plant):
    version = plant.add("second")
    own = plant.registered.version(version).description
    for _ in range(2):
        check_compliance(*plant.about, version, SECOND)
    described = plant.registered.version(version).description
    assert described.startswith(own.strip()[:200])
    assert described.count("### compliance: ") == 1
    assert len(described) <= 5000


def test_without_its_training_set_it_is_tried_on_the_stored_example(plant):
    version = plant.add("second")
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.trained.project)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert found(verdict, "scores").outcome is Outcome.PASS
    assert found(verdict, "scores").evidence["source"] == "the example stored with the model"


def test_an_example_that_is_no_table_is_a_verdict(plant, tmp_path):
    """A version from a notebook: no training set to try it on, and rows stored with it that nothing can read."""
    tags = {k: v for k, v in plant.trained.versions["second"].tags.items() if k != "penstock.training_set"}
    for rows, said in (
        ('[{"load": 1}, {"load": "x"}]', "is no table (Arrow"),
        ('{"load": 1}', "is no table (TypeError: it is no list of rows): log the model with a list of rows"),
        ("load 1", "is no table (JSONDecodeError"),
    ):
        version = plant.add_tampered(_storing(rows), tmp_path, tags=tags)
        verdict, _ = plant.through_gates(version)
        assert failing(verdict) == {"loads"}, verdict.to_markdown()
        assert f"the example stored with it (extra_files/example_rows.json) {said}" in found(verdict, "loads").detail
        assert stage_of(*plant.about, version) is Stage.ARCHIVED
    verdict = check_compliance(*plant.about, plant.add_tampered(_storing('{"load": 1}'), tmp_path), SECOND)
    assert failing(verdict) == {"input_example"}, "its training set is there"


def _storing(rows: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "extra_files/example_rows.json").write_text(rows) and None


def test_mlflow_down_archives_nobody(plant, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    version = plant.add("second")
    here = plant.workspace.resolved
    away = plant.workspace.with_(connections=Connections(here.spark_url, "http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match="MLflow did not answer"):
        check_compliance(away, plant.project, MODEL, version, SECOND)
    assert stage_of(*plant.about, version) is Stage.NONE


def test_an_outage_in_the_middle_of_a_download_archives_nobody(plant, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    version, here = plant.add("second"), plant.workspace.resolved
    for status in (200, 503):
        with relay(here.mlflow_uri, status) as url:
            away = plant.workspace.with_(connections=Connections(here.spark_url, url))
            for gate in (check_compliance, compare_with_production):
                with pytest.raises(ServiceError, match="could not be fetched from MLflow at|did not answer"):
                    gate(away, plant.project, MODEL, version, SECOND)
    with relay(here.mlflow_uri, 404) as url:
        away = plant.workspace.with_(connections=Connections(here.spark_url, url))
        assert "its files are not there" in check_compliance(away, plant.project, MODEL, version, SECOND).reason
    assert stage_of(*plant.about, version) is Stage.NONE


def test_files_that_are_not_there_are_a_verdict(plant):
    run = MlflowClient().create_run(MlflowClient().get_experiment_by_name("Default").experiment_id).info
    version = plant.add("second", source=f"{run.artifact_uri}/model", run_id=run.run_id)
    assert "has no MLmodel: it is no MLflow model, or its files are gone" in (
        check_compliance(*plant.about, version, SECOND).reason
    )  # fmt: skip
    with pytest.raises(ScoringError, match="cannot be read from"):
        load_scorer_from(plant.workspace, f"runs:/{run.run_id}/model")


def test_a_full_disk_of_this_machine_is_no_verdict(plant):
    folder = plant.workspace.project(plant.project).folder
    (folder / "rules.py").write_text(
        "def writes(subject):\n    raise OSError(28, 'No space left on device')\n"
        "def reads(subject):\n    (subject.files.folder / 'notes.txt').read_text()\n"
    )
    version = plant.add("second")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with open_subject(*plant.about, version, SECOND) as subject:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # what is larger cannot be written
        try:
            with pytest.raises(ServiceError, match="the trial of models:/.* could not be finished: OSError"):
                _ = subject.attempt
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    edit_compliance(plant, own={"reads": "rules.reads"})
    assert failing(check_compliance(*plant.about, version, SECOND)) == {"reads"}, "a file that the version lacks"
    edit_compliance(plant, own={"writes": "rules.writes"})
    with pytest.raises(ServiceError, match="the check writes of .* could not be finished: .*No space left on device"):
        check_compliance(*plant.about, version, SECOND)


def test_a_candidate_of_an_unknown_model_or_project_has_a_verdict_that_says_what_to_do(plant):
    """Without anybody asking: no event starts anything for it, since no DAG is its own."""
    import mlflow

    misspelt, foreign, others = f"{plant.project}.dreams", "nowhere.dreams", "another-tools-model"
    api, source = mlflow.MlflowClient(), plant.trained.versions["second"].source
    for name in (misspelt, foreign, others):
        api.create_registered_model(name)
        api.create_model_version(name, source, model_id=source.removeprefix("models:/"))
    try:
        listed = undeclared_models(plant.workspace)
        assert f"{plant.project}.{MODEL}" not in listed
        assert listed.get(others) is None, "the registry has other users, too"
        assert f"there is no project nowhere in {plant.workspace.root}/include/projects" in listed[foreign]
        assert "declares no model dreams: deploy the code that declares it" in listed[misspelt]
        seen = undeclared_here(plant.workspace, lambda project: project != "nowhere")
        assert seen == {name: why for name, why in listed.items() if name != foreign}
        assert judge_undeclared(plant.workspace, plant.project, SECOND) == {f"{misspelt} version 1": listed[misspelt]}
        judged = api.get_model_version(misspelt, "1")
        assert (judged.tags["penstock.compliance"], judged.tags["penstock.compliance_reason"]) == (
            "fail", listed[misspelt],
        )  # fmt: skip
        assert listed[misspelt] in judged.description
        assert judge_undeclared(plant.workspace, plant.project, SECOND) == {}, "each once"
        assert api.get_model_version(foreign, "1").tags == {}, "it may be another's"
        assert checks(check_compliance(plant.workspace, "nowhere", "dreams", 1, SECOND)) == {"project": "fail"}
    finally:
        for name in (misspelt, foreign, others):
            api.delete_registered_model(name)


def _pickled(command: str) -> Callable[[Path], None]:
    """Makes a scikit-learn model of it, whose pickle runs a command when it is loaded."""

    class Bomb:
        def __reduce__(self) -> tuple:
            return os.system, (command,)

    def tamper(folder: Path) -> None:
        (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
        spec = yaml.safe_load((folder / "MLmodel").read_text())
        flavor = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "code": None}
        spec["flavors"] = {"sklearn": flavor, "python_function": spec["flavors"]["python_function"]}
        (folder / "MLmodel").write_text(yaml.safe_dump(spec))

    return tamper


def test_a_pickle_of_unknown_origin_is_never_loaded_and_one_that_somebody_vouches_for_is(plant, tmp_path):
    fired = tmp_path / "fired"
    version = plant.add_tampered(_pickled(f"touch {fired}"), tmp_path)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert failing(verdict) == _NOT_LOADED
    assert {checks(verdict)[name] for name in UNTRIED} == {"warn"}
    assert "it is stored as cloudpickle" in verdict.reason
    assert not fired.exists()
    adopt_version(*plant.about, version, "Ann", "made by our friends", SECOND)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert checks(verdict)["origin"] == "pass"
    assert failing(verdict) == _NOT_LOADED, "an adoption alone vouches for no pickle"
    assert not fired.exists()
    adopt_version(*plant.about, version, "Ann", "I read it", SECOND, trust_pickle=True)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert checks(verdict)["safe_serialisation"] == "pass"
    assert fired.exists(), "now it is loaded"


def test_no_way_to_load_a_version_leads_past_the_origin_of_a_pickle(plant, tmp_path):
    """Without any compliance check: a candidate that is compared, a version that somebody promoted by hand."""
    fired = tmp_path / "fired"
    name = f"{plant.project}.{MODEL}"
    version = plant.add_tampered(_pickled(f"touch {fired}"), tmp_path)
    compared = compare_with_production(*plant.about, version, SECOND)
    assert failing(compared) == {"candidate scores"}
    assert f"penstock adopt {name} {version} --trust-pickle" in compared.reason
    promote(*plant.about, version, "Ben", "in a hurry", {}, FIRST)
    with pytest.raises(ScoringError, match=rf"nothing in {plant.project}\.model_origins vouches for its files"):
        score_batch(*plant.about, SECOND)
    source = plant.registered.version(version).source
    for uri in (f"models:/{name}@production", f"runs:/{source.split('/')[-3]}/model"):
        with pytest.raises(ScoringError, match=r"it is stored as cloudpickle; .*vouches for its files"):
            load_scorer_from(plant.workspace, uri)
    assert not check_former(*plant.about, version).passed
    adopt_version(*plant.about, version, "Ann", "made by our friends", SECOND)
    with pytest.raises(ScoringError, match="vouches for its files"):
        load_version(plant.workspace, name, version)
    assert not fired.exists()
    adopt_version(*plant.about, version, "Ann", "I read it", SECOND, trust_pickle=True)
    load_version(plant.workspace, name, version)
    assert fired.exists(), "now it is loaded"


def test_a_pickle_that_was_exchanged_after_somebody_vouched_for_it_is_not_loaded(plant, tmp_path):
    import mlflow

    fired = tmp_path / "fired"
    version = plant.add_tampered(_pickled("true"), tmp_path)
    adopt_version(*plant.about, version, "Ann", "I read it", SECOND, trust_pickle=True)
    found, other = plant.registered.version(version), tmp_path / "other"
    other.mkdir()
    local = Path(mlflow.artifacts.download_artifacts(found.source, dst_path=str(other)))
    _pickled(f"touch {fired}")(local)
    mlflow.MlflowClient().log_artifacts(found.run_id, str(local), "model")
    with pytest.raises(ScoringError, match="not those that Ann adopted: they were exchanged"):
        load_version(plant.workspace, f"{plant.project}.{MODEL}", version)
    assert not fired.exists()


EXCHANGED = "Made by somebody else."


def _from_elsewhere(plant, tmp_path: Path, note: str = "Made at the university.") -> int:
    """Good files, of a run that is none of this environment's training."""
    return plant.add_tampered(lambda folder: (folder / "NOTE.md").write_text(note), tmp_path)


def _exchange_note(plant, version: int, tmp_path: Path) -> None:
    note = tmp_path / "NOTE.md"
    note.write_text(EXCHANGED)
    MlflowClient().log_artifact(plant.registered.version(version).run_id, str(note), "model")
    scoring._load.cache_clear()  # as in the next process


def _judged(workspace, project: str) -> list:
    found = [row for row in read_origins(workspace, project, MODEL) if row.kind is OriginKind.JUDGED]
    return sorted(found, key=lambda row: row.version)


def test_a_version_that_passes_with_a_warning_is_held_to_the_files_that_were_judged(plant, tmp_path):
    """Two of them, of the same files."""
    versions, name = [_from_elsewhere(plant, tmp_path) for _ in range(2)], f"{plant.project}.{MODEL}"
    nothing = plant.add_tampered(lambda folder: (folder / "MLmodel").unlink(), tmp_path)
    assert not check_compliance(*plant.about, nothing, SECOND).passed
    for version in versions:
        verdict = check_compliance(*plant.about, version, SECOND)
        assert verdict.passed, verdict.to_markdown()
        assert checks(verdict)["origin"] == "warn"
        assert load_version(plant.workspace, name, version)
    before = _judged(plant.workspace, plant.project)
    assert [(row.version, row.as_of, row.trusts_pickle) for row in before] == [(v, SECOND, False) for v in versions]
    assert len({row.digest for row in before}) == 1
    for version in versions:
        _exchange_note(plant, version, tmp_path)
        with pytest.raises(ScoringError, match=r"not those that the compliance check judged \(as of 2020-04-20T00:00"):
            load_version(plant.workspace, name, version)
    verdict = check_compliance(*plant.about, versions[0], SECOND)
    assert failing(verdict) == {"loads"}
    assert "were exchanged in MLflow's artifact store since" in found(verdict, "loads").detail
    assert f"penstock adopt {name} {versions[0]} --reason WHY" in found(verdict, "loads").detail
    assert _judged(plant.workspace, plant.project) == before, "they are not judged anew"
    adopt_version(*plant.about, versions[0], "Ann", "I exchanged a note", SECOND)
    assert load_version(plant.workspace, name, versions[0])
    with pytest.raises(ScoringError, match="the compliance check judged"):
        load_version(plant.workspace, name, versions[1])


def test_each_environment_holds_a_version_to_what_its_own_check_judged(plant, tmp_path):
    """Another environment, that may read this one's lakehouse."""
    version, name = _from_elsewhere(plant, tmp_path), f"{plant.project}.{MODEL}"
    environment = plant.workspace.environment
    read_only = [{"name": "first", "root": environment.lakehouse.root}]
    place = type(environment.lakehouse)(root=str(tmp_path / "another"), read_only=read_only)
    another = plant.workspace.with_(environment=environment.model_copy(update={"lakehouse": place}))
    assert check_compliance(another, plant.project, MODEL, version, SECOND).passed
    assert [row.version for row in _judged(another, plant.project)] == [version]
    assert _judged(plant.workspace, plant.project) == []
    _exchange_note(plant, version, tmp_path)
    with pytest.raises(ScoringError, match="the compliance check judged"):
        load_version(another, name, version)
    assert load_version(plant.workspace, name, version), "here nobody has judged it"


def test_the_files_of_another_version_that_is_known_are_exchanged_files_too(plant, tmp_path):
    one, other = (_from_elsewhere(plant, tmp_path, note) for note in ("Made at the university.", EXCHANGED))
    for version in (one, other):
        adopt_version(*plant.about, version, "Ann", "cost a month", SECOND)
    _exchange_note(plant, one, tmp_path)
    with pytest.raises(ScoringError, match=f"version {one} is not loaded: .* not those that Ann adopted"):
        load_version(plant.workspace, f"{plant.project}.{MODEL}", one)
    assert load_version(plant.workspace, f"{plant.project}.{MODEL}", other)


def _editing(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        spec = yaml.safe_load((folder / "MLmodel").read_text())
        change(spec["flavors"])
        (folder / "MLmodel").write_text(yaml.safe_dump(spec))

    return tamper


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_editing(lambda f: f["lightgbm"].update(code="code")), "it brings Python code of its own (code)"),
        (_editing(lambda f: f["lightgbm"].update(model_class="os.abort")), "its class os.abort is none of lightgbm"),
        (_editing(lambda f: f["python_function"].update(loader_module="evil")), "MLflow would load it by evil"),
        (_editing(lambda f: f.update(langchain=f.pop("lightgbm"))), "how MLflow's flavour langchain stores models"),
        (lambda f: (f / "more.bin").write_bytes(pickle.dumps({"a": 1})), "it holds pickles: more.bin"),
    ],
    ids=["code", "class", "loader", "flavour", "hidden pickle"],
)
def test_other_ways_to_run_code_are_refused_before_anything_is_loaded(plant, tmp_path, tamper, reason):
    version = plant.add_tampered(tamper, tmp_path)
    with open_subject(*plant.about, version, SECOND) as subject:
        answer = CHECKS["safe_serialisation"].function(subject)
        assert answer.outcome is Outcome.FAIL
        assert reason in answer.detail
        assert not may_be_loaded(subject)


def test_its_crash_timeout_and_hunger_are_verdicts(plant, tmp_path):
    """A model whose pickle was vouched for, and that does what no model should while it is loaded."""
    for command, limits, said in (
        ("kill -SEGV $PPID", {}, "that loads it was ended by SIGSEGV"),
        ("sleep 100", {"timeout": "5s"}, "was stopped after 5 s (promotion.compliance.timeout)"),
    ):
        edit_compliance(plant, **limits)
        version = plant.add_tampered(_pickled(command), tmp_path)
        adopt_version(*plant.about, version, "Ann", "try it", SECOND, trust_pickle=True)
        verdict = check_compliance(*plant.about, version, SECOND)
        assert failing(verdict) == {"loads"}
        assert said in found(verdict, "loads").detail
    edit_compliance(plant, max_memory_megabytes=256)
    with open_subject(*plant.about, plant.add("second"), SECOND) as subject:
        hungry = subject.asked.model_copy(update={"max_memory_megabytes": 1})
        trial = try_model(subject.files, None, hungry)
        assert not trial.loaded
        assert "more than 1 MB (promotion.compliance.max_memory_megabytes)" in str(trial.problem)


def test_a_class_that_does_not_import_is_named(plant, tmp_path):
    def tamper(folder: Path) -> None:
        _pickled("true")(folder)
        (folder / "model.pkl").write_bytes(b"cno.such.package\nModel\n.")

    version = plant.add_tampered(tamper, tmp_path)
    adopt_version(*plant.about, version, "Ann", "from the archive", SECOND, trust_pickle=True)
    verdict = check_compliance(*plant.about, version, SECOND)
    assert failing(verdict) == {"loads"}
    assert "ModuleNotFoundError: No module named 'no'" in found(verdict, "loads").detail


def _blocking(plant, name: str = "prod"):
    environment = plant.workspace.environment
    return plant.workspace.with_(
        environment=environment.model_copy(update={"name": name, "compliance": EnvironmentCompliance()})
    )


def test_where_it_comes_from_blocks_outside_of_dev_until_a_person_adopts_it(plant):
    version = plant.add("second")
    prod = _blocking(plant)
    with open_subject(prod, plant.project, MODEL, version, SECOND) as subject:
        answer = CHECKS["origin"].function(subject)
        severity = CHECKS["origin"].severity_in(prod.environment, subject.asked)
    assert answer.outcome is Outcome.FAIL, "its run was one of dev"
    assert f"penstock adopt {plant.project}.{MODEL} {version} --reason WHY" in answer.detail
    assert severity == ("block", "default")
    adopt_version(prod, plant.project, MODEL, version, "Ann", "cost a month to train", SECOND)
    with open_subject(prod, plant.project, MODEL, version, SECOND) as subject:
        answer = CHECKS["origin"].function(subject)
    assert answer.outcome is Outcome.PASS
    assert answer.detail.startswith("Ann adopted it (cost a month to train), although its run's tag")
    rows = read(plant.workspace.addresses.readable(f"{plant.project}.model_origins"))
    row = rows[rows.kind == "adopted"].iloc[0]
    assert (row.decided_by, row.reason, row.trusts_pickle) == ("Ann", "cost a month to train", False)
    notes = [note for note in AuditLog(*plant.about).read().notes if note.kind == "adoption"]
    assert [(note.version, note.decided_by, note.reason) for note in notes] == [
        (version, "Ann", "cost a month to train")
    ]
    assert adoption_of(prod, plant.project, MODEL, version, SECOND).decided_by == "Ann"
    assert adoption_of(*plant.about, version, SECOND) is None, "in dev it needs nobody"
    with pytest.raises(GateError, match="say why"):
        adopt_version(prod, plant.project, MODEL, version, "Ann", " ", SECOND)


@pytest.mark.parametrize(
    ("code", "reviewed", "said"),
    [
        (
            "c0ffee" * 6 + "c0ff-dirty",
            "main",
            "from a working tree with uncommitted changes of plugins/loss.py (c0ffee",
        ),
        (
            "c0ffee" * 6 + "c0ff",
            None,
            "is on none of the reviewed branches main ({folder} lies in no repository, so the commit and branch that "
            "its image was built from are those in PENSTOCK_CODE_VERSION (0ne), PENSTOCK_CODE_BRANCH (not set): docs/",
        ),
        (None, None, "the code that trained it is not in Git ({folder} lies in no repository, so"),
    ],
    ids=["dirty", "unreviewed", "not in Git"],
)
def test_a_dirty_tree_and_an_unreviewed_commit_are_marked(plant, code, reviewed, said, monkeypatch):
    monkeypatch.setenv("PENSTOCK_CODE_VERSION", "0ne")
    monkeypatch.delenv("PENSTOCK_CODE_BRANCH", raising=False)
    version = plant.add("second")
    with open_subject(*plant.about, version, SECOND) as subject:
        row = subject.provenance.trained
        write_origin(plant.workspace, plant.project, replace(row, code=code, reviewed_on=reviewed))
    MlflowClient().set_tag(row.run_id, UNCOMMITTED, "plugins/loss.py")
    try:
        with open_subject(*plant.about, version, SECOND) as subject:
            answer = CHECKS["origin"].function(subject)
    finally:
        MlflowClient().delete_tag(row.run_id, UNCOMMITTED)
    assert answer.outcome is Outcome.FAIL
    assert said.format(folder=plant.workspace.project(plant.project).folder) in answer.detail
    assert "its run's tag penstock.code is" in answer.detail, "the run says something else"


def test_tags_of_the_version_alone_prove_nothing(plant, tmp_path):
    """The very same tags on files that training did not make."""
    version = plant.add_tampered(lambda f: (f / "model.lgb").write_text("other"), tmp_path)
    with open_subject(*plant.about, version, SECOND) as subject:
        answer = CHECKS["origin"].function(subject)
    assert plant.registered.version(version).tags["penstock.code"]
    assert "they were trained elsewhere, or changed since" in answer.detail


def test_personal_data_are_found_through_the_sql_of_features(plant):
    version = plant.add("second")

    def answer():
        with open_subject(*plant.about, version, SECOND) as subject:
            return CHECKS["personal_data"].function(subject)

    assert "no column of the projects here is declared as personal" in answer().detail
    plant.edit(lambda s: s["sources"]["outcomes"]["columns"].update(broke={"type": "boolean", "personal": True}))
    found = answer()
    name = plant.project
    assert found.outcome is Outcome.FAIL
    assert found.evidence["paths"] == [f"{name}.machine_daily.heat <- {name}.outcomes.broke"]
    edit_compliance(plant, forbidden_columns=["jobs.load"])
    assert answer().evidence["paths"] == [f"{name}.jobs.load"]
    edit_compliance(plant, forbidden_columns=["jobs.machine"])
    assert answer().outcome is Outcome.PASS, "a key of a lookup is no feature"
    (plant.workspace.project(name).folder / "features.py").write_text("def heat(inputs):\n    return None\n")

    def by_function(spec: dict) -> None:
        spec["feature_tables"]["machine_daily"].update(function="features.heat")
        del spec["feature_tables"]["machine_daily"]["sql"]
        spec["models"][MODEL]["promotion"].update(compliance={"forbidden_columns": ["outcomes.broke"]})

    plant.edit(by_function)
    assert answer().outcome is Outcome.WARN
    assert "its transformation cannot be followed, and reads" in answer().detail


PEOPLE = """
name: crm
description: Who works at which machine.
owner: people@example.com
sources:
  people:
    description: Them.
    primary_keys: [machine]
    available_at: known_at
    columns: {machine: string, email: {type: string, personal: true}, known_at: timestamp}
"""
MADE_OF_THEM = (
    "SELECT o.machine, date_trunc('DAY', o.known_at) AS event_time, CAST(max(length(p.email)) AS DOUBLE) AS heat "
    "FROM outcomes o JOIN crm.people p ON p.machine = o.machine GROUP BY 1, 2"
)


def test_a_project_that_cannot_be_read_hides_no_personal_data(plant):
    """Another team's project.yaml breaks, and a feature is made from one of its columns."""
    version, name = plant.add("second"), plant.project
    people = plant.workspace.root / "include/projects/crm/project.yaml"
    people.parent.mkdir()
    people.write_text(PEOPLE)
    plant.edit(lambda spec: spec["feature_tables"]["machine_daily"].update(inputs=["outcomes", "crm.people"]))
    (plant.workspace.project(name).folder / "features/machine_daily.sql").write_text(MADE_OF_THEM)

    def answer():
        with open_subject(*plant.about, version, SECOND) as subject:
            return CHECKS["personal_data"].function(subject)

    assert answer().evidence["paths"] == [f"{name}.machine_daily.heat <- crm.people.email"]
    people.write_text(PEOPLE.replace("sources:", "sorces:"))
    found = answer()
    assert found.outcome is Outcome.WARN
    assert f"{name}.machine_daily.heat" in found.detail
    assert "crm.people" in found.detail
    assert f"the declaration cannot be read ({people}" in found.detail
    plant.edit(lambda spec: None)  # the SQL is that of before again, too
    assert answer().outcome is Outcome.PASS, "nothing of it is reached"


def test_features_must_be_fresh_and_defined_as_in_training(plant):
    version = plant.add("second")

    def answer(name: str, as_of=SECOND):
        with open_subject(*plant.about, version, as_of) as subject:
            return CHECKS[name].function(subject)

    edit_compliance(plant, max_feature_age="3d")
    assert answer("features_fresh").outcome is Outcome.PASS
    late = answer("features_fresh", SECOND + timedelta(days=20))
    assert late.outcome is Outcome.FAIL
    assert "ends 10 d before as_of (at most 3d)" in late.detail
    assert answer("feature_definitions").outcome is Outcome.PASS
    plant.edit(lambda s: s["feature_tables"]["machine_daily"]["columns"].update(noise="double"))
    folder = plant.workspace.project(plant.project).folder / "features"
    sql = (folder / "machine_daily.sql").read_text()
    (folder / "machine_daily.sql").write_text(sql.replace("AS heat", "AS heat, max(1.0) AS noise"))
    assert answer("feature_definitions").outcome is Outcome.PASS, "a new column breaks no model"
    (folder / "machine_daily.sql").write_text(sql.replace("avg(", "max("))
    changed = answer("feature_definitions")
    assert changed.outcome is Outcome.FAIL
    assert "computed in another way today" in changed.detail


def test_budgets_severities_and_the_projects_own_checks(plant):
    version = plant.add("second")
    folder = plant.workspace.project(plant.project).folder
    (folder / "rules.py").write_text(
        "from penstock.gates import Check, Outcome\n"
        "def sane(subject):\n"
        "    mean = subject.trial.predictions.mean()\n"
        "    return Check('sane', Outcome.FAIL if mean > 0.01 else Outcome.PASS, f'mean {mean > 0}')\n"
        "def broken(subject):\n    return 1 / 0\n"
    )
    edit_compliance(
        plant, max_size_megabytes=0.000001, max_row_milliseconds=0.000001,
        severities={"size": "warn", "latency": "block", "description": "off", "sane": "warn"},
        own={"sane": "rules.sane", "broken": "rules.broken"},
    )  # fmt: skip
    strict = EnvironmentCompliance(severities={"input_example": "off"})
    environment = plant.workspace.environment.model_copy(update={"compliance": strict})
    verdict = check_compliance(plant.workspace.with_(environment=environment), plant.project, MODEL, version, SECOND)
    assert failing(verdict) == {"latency", "broken"}
    assert checks(verdict)["size"] == checks(verdict)["sane"] == "warn"
    assert "too large: " in found(verdict, "size").detail
    assert found(verdict, "sane").detail == "mean True"
    assert "the check itself failed: ZeroDivisionError" in found(verdict, "broken").detail
    assert found(verdict, "size").evidence["severity_by"] == "project.yaml"
    off = found(verdict, "switched_off").detail
    assert "description (project.yaml)" in off
    assert "input_example (environment dev)" in off


def test_requirements_are_held_against_what_runs_here(plant, tmp_path):
    lines = "mlflow\nno-such-package==1\nnumpy==0.1\n"
    version = plant.add_tampered(lambda f: (f / "requirements.txt").write_text(lines), tmp_path)
    with open_subject(*plant.about, version, SECOND) as subject:
        answer = CHECKS["requirements"].function(subject)
    assert answer.outcome is Outcome.FAIL
    assert answer.evidence["missing"] == ["no-such-package==1"]
    assert answer.evidence["other"][0].startswith("numpy==0.1 (here: ")
    version = plant.add_tampered(lambda f: (f / "requirements.txt").write_text("mlflow\nnumpy\n"), tmp_path)
    with open_subject(*plant.about, version, SECOND) as subject:
        answer = CHECKS["requirements"].function(subject)
    assert answer.outcome is Outcome.WARN
    assert answer.detail.startswith("it imports lightgbm, which its requirements.txt does not bring")
    assert answer.evidence["undeclared"] == ["lightgbm"], "not what lightgbm imports where it is there"


def test_a_model_loads_with_its_requirements_alone_or_it_says_why_not(plant, tmp_path):
    """In a real environment that uv makes, of few packages and in the versions of this one."""

    def answer(*packages: str):
        lines = [name if "=" in name else f"{name}=={version_of(name)}" for name in packages]
        version = plant.add_tampered(lambda f: (f / "requirements.txt").write_text("\n".join(lines)), tmp_path)
        with open_subject(*plant.about, version, SECOND) as subject:
            unknown = CHECKS["own_environment"].function(subject)
        assert unknown.outcome is Outcome.WARN, "packages can run code: nothing is installed for nobody knows whom"
        assert "origin is unknown" in unknown.detail
        adopt_version(*plant.about, version, "Ann", "from our friends", SECOND)
        with open_subject(*plant.about, version, SECOND) as subject:
            return CHECKS["own_environment"].function(subject)

    few = ("mlflow-skinny", "numpy", "pandas", "scipy")
    good = answer(*few, "lightgbm")
    assert good.outcome is Outcome.PASS, good.detail
    assert good.detail.startswith("loads with its 5 requirements alone, in ")
    kept = list((state_dir() / "model_environments").iterdir())
    assert len(kept) == 1, "nothing half-made is left"
    made = (kept[0] / "pyvenv.cfg").stat().st_mtime_ns
    assert answer("lightgbm", *few).outcome is Outcome.PASS
    assert (kept[0] / "pyvenv.cfg").stat().st_mtime_ns == made, "it is made once"
    lacking = answer(*few)
    assert lacking.outcome is Outcome.FAIL
    assert "does not load with its own requirements alone: ModuleNotFoundError: No module named" in lacking.detail
    impossible = answer("numpy==0.0.1")
    assert impossible.outcome is Outcome.FAIL
    assert impossible.detail.startswith("its requirements cannot be installed: ")
    assert "numpy==0.0.1" in impossible.detail
    assert "are not from a package index" in answer("lightgbm @ https://example.com/lightgbm==1.whl").detail
