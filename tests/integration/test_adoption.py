"""A version that was trained elsewhere: refused in staging and prod, until a person answers for it; by the commands."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from penstock.cli import app
from penstock.clock import to_text
from penstock.errors import GateError, SpecError
from penstock.registry import adoption
from penstock.registry.audit import AuditLog
from penstock.registry.compliance.gate import open_subject
from penstock.registry.notes import NoteKind
from penstock.registry.promotion import promised_metrics
from penstock.registry.stages import Stage, current_production, stage_of
from penstock.spec.environment import Approval
from penstock.training import ScoringError, scoring
from penstock.training.scoring import load_scorer
from penstock.workspace import SessionKey, Workspace
from tests.integration.plant import MODEL, SECOND, Plant
from tests.integration.shelf import Killed

LATER = to_text(SECOND.replace(hour=1))


@pytest.fixture
def command(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`penstock …` in an environment of this name: command("staging", "adopt", …)."""
    here = plant.workspace.resolved
    monkeypatch.setenv("PENSTOCK_ROOT", str(plant.workspace.root))
    monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", str(here.spark_token))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", str(here.mlflow_username))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", str(here.mlflow_password))

    def call(environment: str, *words: str, approval: str = "automatic", approvers: Sequence[str] = ()) -> Result:
        declared = {
            "name": environment, "description": "for tests", "schedules": False,
            "approval": {"mode": approval, "approvers": [*approvers]},
            "code": {"branches": ["main"]}, "lakehouse": {"root": plant.workspace.environment.lakehouse.root},
            "spark": {"address": here.spark_url}, "mlflow": {"tracking_uri": here.mlflow_uri},
        }  # fmt: skip
        folder = plant.workspace.root / "include/environments"
        (folder / f"{environment}.yaml").write_text(yaml.safe_dump(declared))
        return CliRunner().invoke(app, words, env={"PENSTOCK_ENV": environment})

    return call


def from_elsewhere(plant: Plant, tmp_path: Path) -> int:
    """Good files that nobody's training here has made; nor has their run the mean label, so a heuristic is declared."""
    guess = plant.workspace.project(plant.project).folder / "models/guess.py"
    guess.write_text("def half(features):\n    return [0.5] * len(features)\n")
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(heuristic="models.guess.half"))
    return plant.add_tampered(
        lambda folder: (folder / "NOTE.md").write_text("Made on the university's cluster."), tmp_path
    )


def promotion(name: str, version: int, as_of: str) -> tuple[str, ...]:
    return ("run", "model_promotion", name, "--model-version", str(version), "--as-of", as_of)


def test_refused_in_staging_and_let_in_once_a_person_has_adopted_it(plant: Plant, command, tmp_path: Path) -> None:
    name, version = f"{plant.project}.{MODEL}", from_elsewhere(plant, tmp_path)
    refused = command("staging", *promotion(name, version, to_text(SECOND)))
    assert refused.exit_code == 0, refused.output
    assert stage_of(*plant.about, version) is Stage.ARCHIVED
    reason = AuditLog(*plant.about).read().latest(version).reason
    assert "they were trained elsewhere, or changed since" in reason
    assert f"penstock adopt {name} {version} --reason WHY" in reason
    assert current_production(*plant.about) is None

    nobody = command("staging", "adopt", name, str(version), "--reason", " ", "--by", "Ann")
    assert nobody.exit_code != 0
    assert command("staging", "adopt", name, str(version), "--by", "Ann").exit_code != 0, "a reason is required"
    adopted = command("staging", "adopt", name, str(version), "--reason", "cost a month", "--by", "Ann")
    assert adopted.exit_code == 0, adopted.output
    assert "is adopted by Ann" in adopted.output
    assert stage_of(*plant.about, version) is Stage.ARCHIVED, "its gates are still to pass"

    promoted = command("staging", *promotion(name, version, LATER))
    assert promoted.exit_code == 0, promoted.output
    assert current_production(*plant.about) == version
    assert f"{name}: version {version} is in production." in command("staging", "repair", name).output
    row = AuditLog(*plant.about).read().latest(version)
    assert (row.to_stage, row.decided_by, row.reason) == (Stage.PRODUCTION, "Ann", "adopted: cost a month")
    assert plant.registered.version(version).tags["penstock.origin"] == "adopted by Ann"
    promised = promised_metrics(*plant.about, version)  # its run has no metrics, but the comparison has
    compared = plant.comparisons().query("metric == 'log_loss' and slice == 'all'")
    assert promised["log_loss"] == compared.candidate_value.iloc[-1] > 0

    assert load_scorer(plant.workspace, name, version)
    note = tmp_path / "NOTE.md"
    note.write_text("Made somewhere else.")
    mlflow.MlflowClient().log_artifact(plant.registered.version(version).run_id, str(note), "model")
    scoring._load.cache_clear()  # as in the next process
    with pytest.raises(ScoringError, match=f"version {version} is not loaded: .* not those that Ann adopted"):
        load_scorer(plant.workspace, name, version)


def test_where_people_approve_an_adopted_version_still_waits_for_them(plant: Plant, command, tmp_path: Path) -> None:
    name, version = f"{plant.project}.{MODEL}", from_elsewhere(plant, tmp_path)
    assert command("prod", "adopt", name, str(version), "--reason", "cost a month", "--by", "Ann").exit_code == 0
    waits = command("prod", *promotion(name, version, to_text(SECOND)), approval="human")
    assert waits.exit_code != 0
    assert stage_of(*plant.about, version) is Stage.STAGING
    words = (*promotion(name, version, to_text(SECOND)), "--approved-by", "Ben", "--reason", "Ann is right")
    assert command("prod", *words, approval="human").exit_code == 0
    row = AuditLog(*plant.about).read().latest(version)
    assert (row.to_stage, row.decided_by, row.reason) == (Stage.PRODUCTION, "Ben", "Ann is right")


def test_only_an_approver_of_the_environment_adopts_and_approves(plant: Plant, command, tmp_path: Path) -> None:
    name, version = f"{plant.project}.{MODEL}", from_elsewhere(plant, tmp_path)
    asked = {"approval": "human", "approvers": ("Ann", "Cleo")}
    before = plant.state
    for words in (
        ("adopt", name, str(version), "--reason", "cost a month", "--by", "Mallory"),
        (*promotion(name, version, to_text(SECOND)), "--approved-by", "Mallory", "--reason", "trust me"),
    ):
        refused = command("prod", *words, **asked)
        assert refused.exit_code != 0
        said = f"{refused.output} {refused.exception}"
        assert "Mallory is no approver of the environment prod" in said
        assert "prod.yaml (approval.approvers): Ann, Cleo" in said
    assert plant.state == before
    adopted = command("prod", "adopt", name, str(version), "--reason", "cost a month", "--by", "Ann", **asked)
    assert adopted.exit_code == 0, adopted.output


def test_adopted_in_airflow_by_the_approver_who_starts_the_run(make_plant, tmp_path: Path) -> None:
    from penstock.operators.releases import PromotionControlOperator

    plant = make_plant(approval=Approval(mode="human", approvers=["Ann"]))
    version = from_elsewhere(plant, tmp_path)
    task = PromotionControlOperator(
        task_id="decide", project=plant.project, model=MODEL, root=plant.workspace.root
    )  # fmt: skip

    def adopt(user: str | None, **params: object) -> dict:
        given = {"action": "adopt", "model_version": version, "reason": "cost a month", "trust_pickle": False, **params}
        context = {"params": given, "dag_run": SimpleNamespace(triggering_user_name=user)}
        return task.run(plant.workspace, SECOND, context)

    before = plant.state
    with pytest.raises(GateError, match="Mallory is no approver of the environment dev"):
        adopt("Mallory")
    with pytest.raises(GateError, match="who adopts it.*Airflow names nobody for this run"):
        adopt(None)
    with pytest.raises(SpecError, match="To adopt one, give model_version"):
        adopt("Ann", model_version=None)
    assert plant.state == before
    done = {"action": "adopt", "decided_by": "Ann", "reason": "cost a month", "version": version}
    for trusts in (False, True):
        assert adopt("Ann", trust_pickle=trusts) == done
        with open_subject(*plant.about, version, SECOND) as subject:
            adopted = subject.provenance.adopted
        assert adopted is not None
        assert (adopted.decided_by, adopted.version, adopted.trusts_pickle) == ("Ann", version, trusts)
    notes = [note for note in AuditLog(*plant.about).read().notes if note.kind is NoteKind.ADOPTION]
    assert [(note.decided_by, note.evidence["trusts_pickle"]) for note in notes] == [("Ann", False), ("Ann", True)]


@pytest.mark.parametrize("done", ["write_origin", "_note"])
def test_an_adoption_that_is_killed_on_its_way_vouches_for_nothing_that_the_audit_does_not_know(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    version = from_elsewhere(plant, tmp_path)
    given = (*plant.about, version, "Ann", "cost a month", SECOND)

    def state() -> tuple[bool, int]:
        with open_subject(*plant.about, version, SECOND) as subject:
            adopted = subject.provenance.adopted is not None
        return adopted, sum(note.kind is NoteKind.ADOPTION for note in AuditLog(*plant.about).read().notes)

    with monkeypatch.context() as patch:
        kill_behind(patch, adoption, done)
        with pytest.raises(Killed):
            adoption.adopt_version(*given)
    adopted, notes = state()
    assert notes == 1 or not adopted
    adoption.adopt_version(*given)
    assert state() == (True, 1), "the same again is whole"


def kill_behind(patch: pytest.MonkeyPatch, module: object, name: str) -> None:
    """The process ends right after that function."""
    original = getattr(module, name)

    def step(*arguments: object) -> None:
        original(*arguments)
        raise Killed

    patch.setattr(module, name, step)


def test_airflows_automatic_approval_names_the_person_who_adopted(plant: Plant, command, tmp_path: Path) -> None:
    from penstock.operators.promotion import AutomaticApprovalOperator

    name, version = f"{plant.project}.{MODEL}", from_elsewhere(plant, tmp_path)
    assert command("staging", "adopt", name, str(version), "--reason", "cost a month", "--by", "Ann").exit_code == 0

    class Here(AutomaticApprovalOperator):
        """In the test's own lakehouse."""

        def workspace(self, context: object) -> Workspace:
            return plant.workspace.with_(session_key=SessionKey(f"{plant.project}/t", 1))

    class Task:
        dag_id, run_id, task_id, map_index, try_number = "d", "r", "t", -1, 1

        def xcom_push(self, **_: object) -> None:
            """Nobody looks at the links."""

    task = Here(
        task_id="t", project=plant.project, model=MODEL, root=plant.workspace.root, as_of=to_text(SECOND), shown="x"
    )
    answer = task.execute({"ti": Task(), "params": {"model_version": version}})
    assert answer["responded_by_user"]["name"] == "Ann"
    assert answer["params_input"]["reason"] == "adopted: cost a month"
