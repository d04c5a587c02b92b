"""Two trained versions go through comparison, promotion, rejection and rollback."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.clock import to_text
from penstock.errors import GateError, NothingToDo, RegistryError, ServiceError
from penstock.gates import Check, Outcome, Verdict
from penstock.lakehouse.small_tables import read
from penstock.monitoring.follow_up import follow_up_promotion
from penstock.registry import client, comparison, settling
from penstock.registry.audit import AuditLog
from penstock.registry.comparison import compare_with_production
from penstock.registry.compliance import check_compliance
from penstock.registry.deployments import repair
from penstock.registry.freezing import allow
from penstock.registry.methods import Finding
from penstock.registry.promotion import (
    AUTOMATIC,
    Decision,
    carry_out,
    decide_automatic,
    follow_up,
    production_since,
    promised_metrics,
    promote,
    reject,
    rollback,
    stage_after_compliance,
)
from penstock.registry.stages import Stage, current_production, versions
from penstock.runner import Request, run_pipeline
from penstock.spec.environment import Notification
from penstock.workspace import Lineage, Workspace
from tests.integration.plant import FIRST, MODEL, SECOND, Plant, checks, open_workspace
from tests.integration.promised import publish_window
from tests.integration.shelf import Killed


def test_the_whole_way_again_changes_nothing_even_after_a_newer_promotion(plant):
    first, second, third = plant.add("first"), plant.add("second"), plant.add("second")
    plant.decide(first, FIRST)
    before = plant.state
    plant.decide(first, FIRST)
    assert plant.state == before
    plant.decide(second)
    plant.decide(third, SECOND + timedelta(days=1))
    assert current_production(*plant.about) == third
    before = plant.state
    plant.decide(first, FIRST)
    plant.decide(second)
    assert plant.state == before


def test_the_production_version_needs_no_comparison(plant):
    second = plant.add("second")
    plant.decide(second)
    later = SECOND + timedelta(days=1)
    before = plant.state["deployments"]
    comparison = plant.decide(second, later)
    assert checks(comparison) == {"already in production": "pass"}
    assert plant.state["deployments"] == before


def test_what_was_compared_before_another_came_to_production_promotes_nothing(plant, monkeypatch):
    """Whatever the methods put into their evidence, and where the version was in production itself."""

    def content(_contest):
        return Finding((Check("own", Outcome.PASS, "fine"),))

    monkeypatch.setattr(comparison, "method_of", lambda project, name: content)  # the spec wants the heuristic, too
    one, two, three = plant.add("second"), plant.add("second"), plant.add("second")
    promote(*plant.about, one, "Ann", "fine", {}, SECOND)
    later = SECOND + timedelta(days=1)
    asked = {version: _decided_upon(plant, version, later) for version in (one, two)}
    approved = Decision(True, "Ann", "looks good")
    before = plant.state["deployments"]
    assert carry_out(*plant.about, one, approved, asked[one], later).repeated
    assert plant.state["deployments"] == before
    promote(*plant.about, three, "Ben", "fine, too", {}, later)
    before = plant.state["deployments"]
    for version, against in ((one, "itself, which was in production"), (two, "version 1")):
        said = f"version {version} was compared with {against}, but production is version 3 by now: compare again"
        with pytest.raises(GateError, match=said):
            carry_out(*plant.about, version, approved, asked[version], later)
    assert plant.state["deployments"] == before
    assert current_production(*plant.about) == three


def _decided_upon(plant: Plant, version: int, as_of: datetime) -> dict:
    """What stands in a request for approval that is open."""
    from penstock.registry.approval import shown

    passed = Verdict("compliance", "the candidate", (Check("that", Outcome.PASS, "fine"),))
    comparison = compare_with_production(*plant.about, version, as_of).to_dict()
    return {
        "compliance": passed.to_dict(), "comparison": comparison, "shown": shown(*plant.about, comparison).to_dict(),
    }  # fmt: skip


def test_an_unknown_version_is_refused_by_every_gate(plant):
    for gate in (check_compliance, compare_with_production):
        with pytest.raises(RegistryError, match="version 7"):
            gate(*plant.about, 7, SECOND)


def test_a_promotion_upon_an_outdated_comparison_is_refused(plant):
    first, second, third = plant.add("first"), plant.add("second"), plant.add("second")
    plant.decide(first, FIRST)
    outdated = compare_with_production(*plant.about, third, SECOND)
    plant.decide(second)
    with pytest.raises(GateError, match=r"version 3 was compared with version 1, but production is version 2 by now"):
        promote(*plant.about, third, "Ann", "looked good", {"comparison": outdated.to_dict()}, SECOND)
    renewed = compare_with_production(*plant.about, third, SECOND)
    promote(*plant.about, third, "Ann", "looked good", {"comparison": renewed.to_dict()}, SECOND)
    assert current_production(*plant.about) == third


def test_a_human_decides_where_the_environment_says_so(make_plant):
    from penstock.spec.environment import Approval

    plant = make_plant(approval=Approval(mode="human"))
    version = plant.add("second")
    comparison = compare_with_production(*plant.about, version, SECOND)
    with pytest.raises(GateError, match="wants a human's approval"):
        decide_automatic(plant.workspace, comparison)
    reject(*plant.about, version, "Ann", "I know more", comparison.to_dict(), SECOND)
    row = AuditLog(*plant.about).read().latest(version)
    assert (row.decided_by, row.reason, str(row.to_stage)) == ("Ann", "I know more", "Archived")


def test_a_promotion_that_took_place_before_fails_in_the_shell_as_in_airflow(plant):
    """Once production moved on: nothing is changed, and nobody is told that the version is in production."""
    from penstock.operators.promotion import APPROVE, PromoteOperator

    one = plant.add("second")
    asked = Request(plant.project, MODEL, SECOND, model_version=one)
    run_pipeline(plant.workspace, "model_promotion", asked, lambda *_: None)
    row = AuditLog(*plant.about).read().latest(one)
    assert (row.to_stage, row.decided_by) == (Stage.PRODUCTION, AUTOMATIC)
    two = plant.add("second")
    promote(*plant.about, two, "Ann", "newer", {}, SECOND + timedelta(days=1))
    before = plant.state["deployments"]
    said = f"version {one} is not in production: this promotion took place before .* production is version {two} since"
    with pytest.raises(GateError, match=said) as in_the_shell:
        run_pipeline(plant.workspace, "model_promotion", asked, lambda *_: None)

    class Here(PromoteOperator):
        """In the test's own lakehouse."""

        def workspace(self, context: object) -> object:
            return plant.workspace

    approval = {"chosen_options": [APPROVE], "params_input": {"reason": "all gates passed"}}
    task = Here(
        task_id="to_production", project=plant.project, model=MODEL, root=plant.workspace.root, as_of=to_text(SECOND),
        compliance={}, comparison={}, approval=approval, model_version=one,
    )  # fmt: skip
    with pytest.raises(GateError) as in_airflow:
        task.execute({"ti": SimpleNamespace(xcom_push=lambda **_: None), "params": {}})
    assert str(in_airflow.value) == str(in_the_shell.value)
    assert (plant.state["deployments"], current_production(*plant.about)) == (before, two)


def test_a_worthless_newer_version_costs_a_good_older_one_nothing(plant, tmp_path):
    """Registered in this order before anybody looked at one: 1 is good, 2 is nothing, 3 is good, too."""

    def promote_by_gates(version: int, as_of: datetime = SECOND) -> list[str]:
        asked = Request(plant.project, MODEL, as_of, model_version=version)
        run_pipeline(plant.workspace, "model_promotion", asked, lambda *_: None)
        return plant.stages()

    plant.add("second")
    plant.add_tampered(lambda folder: (folder / "MLmodel").unlink(), tmp_path)
    assert promote_by_gates(2) == ["None", "Archived"]
    assert promote_by_gates(1) == ["Production", "Archived"]
    plant.add("second"), plant.add("second")
    assert promote_by_gates(4) == ["Archived", "Archived", "Archived", "Production"]
    assert "superseded by version 4" in AuditLog(*plant.about).read().latest(3).reason
    before = plant.state["deployments"]
    assert promote_by_gates(3) == ["Archived", "Archived", "Archived", "Production"], "its run comes late"
    assert plant.state["deployments"] == before
    assert promote_by_gates(3, SECOND + timedelta(days=1))[2:] == ["Production", "Archived"], "a person wanted it"


def test_the_shell_does_not_even_check_what_was_rolled_back(plant):
    one, two = plant.add("first"), plant.add("second")
    for number, version in enumerate((one, two)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=number))
    rollback(*plant.about, "Ann", "it smells")
    before = plant.state
    asked = Request(plant.project, MODEL, SECOND + timedelta(days=2), model_version=two)
    with pytest.raises(GateError, match="version 2 was rolled back .* does not come back by itself"):
        run_pipeline(plant.workspace, "model_promotion", asked, lambda *_: None)
    assert plant.state == before


def test_rollback_brings_the_former_version_back(plant):
    one, two, three = plant.add("first"), plant.add("second"), plant.add("second")
    with pytest.raises(NothingToDo, match="no version in production"):
        rollback(*plant.about, "Ann", "it smells")
    for n, version in enumerate((one, two, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))
    done = rollback(*plant.about, "Ann", "it smells", from_version=three, as_of=SECOND + timedelta(days=4))
    assert (done.version, done.displaced, done.production, done.repeated) == (two, three, two, False)
    before = plant.state
    again = rollback(*plant.about, "Ann", "it smells", from_version=three, as_of=SECOND + timedelta(days=4))
    assert again.repeated
    assert plant.state == before
    row = AuditLog(*plant.about).read().latest(two)
    assert (row.decided_by, row.reason) == ("Ann", "it smells")
    assert promised_metrics(*plant.about, two)
    assert rollback(*plant.about, "Ann", "worse and worse").version == one, "not the one that was rolled back"
    with pytest.raises(NothingToDo, match="there is none to go back to"):
        rollback(*plant.about, "Ann", "even further")
    with pytest.raises(NothingToDo, match="version 9 is not in production"):
        rollback(*plant.about, "Ann", "what?", from_version=9)
    allow(*plant.about, three, "Ann", "mended")
    promote(*plant.about, three, "Ann", "mended", {}, SECOND + timedelta(days=2), cause="after all")
    assert plant.stages() == ["Archived", "Archived", "Production"]
    assert rollback(*plant.about, "Ann", "no").version == one


def test_a_former_version_that_can_no_longer_score_is_not_gone_back_to(plant, tmp_path):
    def break_it(folder: Path) -> None:
        (folder / "model.lgb").unlink()

    one, broken, three = plant.add("first"), plant.add_tampered(break_it, tmp_path), plant.add("second")
    for n, version in enumerate((one, broken, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))
    before = plant.state
    with pytest.raises(GateError, match=rf"stays as it is: version {broken} can no longer score .*--to {one}"):
        rollback(*plant.about, "Ann", "it smells")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    plant.edit(lambda spec: spec.update(feature_tables={}) or spec["models"][MODEL].update(lookups=[]))
    with pytest.raises(GateError, match=rf"version {one} can no longer score .*machine_daily"):
        rollback(*plant.about, "Ann", "it smells", to_version=one)
    assert plant.state == before
    plant.edit(lambda spec: None)
    assert rollback(*plant.about, "Ann", "it smells", to_version=one).production == one


def _watch(plant: Plant, **rule: object) -> None:
    def declare(spec: dict) -> None:
        model = spec["models"][MODEL]
        model["promotion"]["follow_up"] = rule
        model["monitoring"] = {"quality": [{"metric": "log_loss", "tolerance": 0.1}], "minimum_rows": 200}

    plant.edit(declare)


def test_a_version_that_breaks_its_promise_is_rolled_back_by_the_follow_up(plant):
    _watch(plant, windows=2, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    for version, as_of in ((one, FIRST), (two, SECOND)):
        promote(*plant.about, version, "a test", "because", {}, as_of)
    day = [SECOND + timedelta(days=n) for n in range(5)]
    window = {"metric": "log_loss", "bound": 0.6}
    publish_window(*plant.about, two, day[0], value=9.0, labelled=300, **window)  # before it was in production
    publish_window(*plant.about, two, day[1], value=9.0, labelled=150, **window)
    publish_window(*plant.about, one, day[2], value=9.0, labelled=300, **window)  # the former version's
    found = follow_up_promotion(*plant.about, day[2])
    assert (found.state, found.news) == ("watching", False)
    assert [one.outcome for one in found.windows] == ["undecided"]
    publish_window(*plant.about, two, day[1], value=0.5, labelled=300, **window)  # its labels arrive
    publish_window(*plant.about, two, day[2], value=0.7, labelled=199, rows=200, **window)
    publish_window(*plant.about, two, day[3], value=0.7, labelled=399, **window)
    assert follow_up_promotion(*plant.about, day[2]).state == "watching", "day 3 was not known then"
    before = current_production(*plant.about)
    found = follow_up_promotion(*plant.about, day[3])
    assert (before, found.state, found.production) == (two, "rolled back", one)
    assert current_production(*plant.about) == one
    row = AuditLog(*plant.about).read().latest(one)
    assert row.decided_by == "penstock (follow-up)"
    assert "log_loss 0.7 where 0.5 was promised and 0.6 is the bound" in row.reason
    notes = [note for note in AuditLog(*plant.about).read().notes if note.kind == "follow_up"]
    assert [(note.version, note.evidence["outcome"]) for note in notes] == [(two, "held"), (two, "failed")]
    with pytest.raises(NothingToDo, match="came back by a rollback"):
        follow_up_promotion(*plant.about, day[4])
    with pytest.raises(GateError, match="was rolled back"):
        promote(*plant.about, two, "a test", "once more", {}, day[4])


def test_a_version_that_a_person_let_come_back_is_not_rolled_back_by_what_was_known_then(plant):
    _watch(plant, windows=2, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    promote(*plant.about, two, "a test", "because", {}, SECOND)
    day = [SECOND + timedelta(days=n) for n in range(4)]
    broken = {"metric": "log_loss", "bound": 0.6, "value": 0.9, "labelled": 300}
    publish_window(*plant.about, two, day[1], **broken)
    assert follow_up_promotion(*plant.about, day[1]).state == "rolled back"
    allow(*plant.about, two, "Ann", "the sensor was broken")
    promote(*plant.about, two, "Ann", "the sensor was broken", {}, SECOND)
    publish_window(*plant.about, two, day[1], **broken)  # monitoring is repeated
    for as_of in day[1:3]:
        found = follow_up_promotion(*plant.about, as_of)
        assert (found.state, found.windows) == ("watching", ())
    assert current_production(*plant.about) == two
    publish_window(*plant.about, two, day[3], **broken)
    assert follow_up_promotion(*plant.about, day[3]).state == "rolled back", "it goes on looking"


def test_a_rollback_whose_try_ended_before_anybody_was_told_is_told_and_announced_by_the_next(
    plant, tmp_path, monkeypatch
):
    from penstock.operators import releases

    _watch(plant, windows=1, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    promote(*plant.about, two, "a test", "because", {}, SECOND)
    day = SECOND + timedelta(days=1)
    publish_window(*plant.about, two, day, metric="log_loss", bound=0.6, value=0.9, labelled=300)
    file = tmp_path / "told.jsonl"
    way = Notification(notifier="penstock.notifiers.file.FileNotifier", arguments={"path": str(file)})
    environment = plant.workspace.environment.model_copy(update={"notifications": [way]})
    workspace = plant.workspace.with_(environment=environment, lineage=Lineage(run="monitoring/one"))
    task = releases.FollowUpOperator(task_id="follow_up", project=plant.project, model=MODEL, root=workspace.root)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(releases, "notify", killed)
        with pytest.raises(Killed):
            task.run(workspace, day, {})
    assert current_production(*plant.about) == one
    before = plant.state["deployments"]
    result = task.run(workspace, day, {})
    assert result == {"state": "rolled back", "version": two, "production": one}, "what follows is not skipped"
    (told,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert told["event"] == "rolled_back"
    assert told["subject"].endswith(f"is the bound. Version {one} is in production again")
    assert "log_loss 0.9 where 0.5 was promised" in told["text"]
    assert plant.state["deployments"] == before
    with pytest.raises(NothingToDo, match="came back by a rollback"):
        task.run(workspace.with_(lineage=Lineage(run="monitoring/two")), day, {})


def test_a_follow_up_that_only_alerts_or_has_nowhere_to_go_back_to_moves_nothing(plant):
    one = plant.add("first")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    with pytest.raises(NothingToDo, match="declares no promotion.follow_up"):
        follow_up_promotion(*plant.about, FIRST)
    _watch(plant, windows=1)
    day = FIRST + timedelta(days=1)
    publish_window(*plant.about, one, day, metric="log_loss", bound=0.6, value=0.9, labelled=300)
    found = follow_up_promotion(*plant.about, day)
    assert (found.state, found.news) == ("failed", True)
    assert not follow_up_promotion(*plant.about, day).news, "it is told once"
    _watch(plant, windows=1, action="rollback")
    found = follow_up_promotion(*plant.about, day)
    assert found.state == "failed"
    assert "It stays in production" in found.reason
    assert current_production(*plant.about) == one


def test_a_window_in_which_a_promised_metric_has_no_value_does_not_hold_and_people_are_told(plant, tmp_path):
    def declare(spec: dict) -> None:
        model = spec["models"][MODEL]
        model["promotion"]["follow_up"] = {"windows": 2, "action": "alert"}
        rules = [{"metric": name, "tolerance": 0.1} for name in ("log_loss", "brier_score")]
        model["monitoring"] = {"quality": rules, "minimum_rows": 200}

    plant.edit(declare)
    one = plant.add("first")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    day = [FIRST + timedelta(days=n) for n in range(5)]
    good = {"bound": 0.6, "value": 0.5, "labelled": 300}
    publish_window(*plant.about, one, day[1], metric="log_loss", **good)  # brier_score failed, and was left out
    found = follow_up_promotion(*plant.about, day[1])
    assert (found.state, found.news, found.windows[0].outcome) == ("watching", False, "undecided")
    assert "brier_score was promised, and has no value in this window" in found.lines[0]
    publish_window(*plant.about, one, day[2], metric="log_loss", **good)
    found = follow_up_promotion(*plant.about, day[2])
    assert (found.state, found.news) == ("undecided", True)
    assert "brier_score had no value in 2 windows" in found.reason
    publish_window(*plant.about, one, day[3], metric="log_loss", **good)
    publish_window(*plant.about, one, day[3], metric="brier_score", **good)
    found = follow_up_promotion(*plant.about, day[3])
    assert (found.state, found.news, found.windows[2].outcome) == ("undecided", False, "held"), "it is told once"
    publish_window(*plant.about, one, day[4], metric="log_loss", **good)
    publish_window(*plant.about, one, day[4], metric="brier_score", **good)
    told = _follow_up_task(plant, day[4], tmp_path)
    assert told == ([], "held"), "that all is well is no bad news"


def _follow_up_task(
    plant: Plant, as_of: datetime, folder: Path, workspace: Workspace | None = None
) -> tuple[list[dict], str]:
    """Runs the task in Airflow's stead; answers what people are told, and the follow-up's state."""
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    from penstock.operators.releases import FollowUpOperator

    file, pushed = folder / "told.jsonl", {}
    way = Notification(notifier="penstock.notifiers.file.FileNotifier", arguments={"path": str(file)})
    environment = plant.workspace.environment.model_copy(update={"notifications": [way]})
    task = FollowUpOperator(task_id="follow_up", project=plant.project, model=MODEL, root=plant.workspace.root)
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    with pytest.raises(DownstreamTasksSkipped):
        task.run((workspace or plant.workspace).with_(environment=environment), as_of, {"ti": ti})
    told = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return told, pushed["return_value"]["state"]


def test_where_nothing_was_promised_the_follow_up_says_so_at_once(plant, tmp_path):
    _watch(plant, windows=2, action="rollback")
    foreign = plant.add_tampered(lambda folder: (folder / "NOTE.md").write_text("from elsewhere"), tmp_path)
    promote(*plant.about, foreign, "a test", "because", {}, FIRST)
    day = FIRST + timedelta(days=1)
    publish_window(*plant.about, foreign, day, metric="log_loss", bound=None, value=9.0, labelled=300)
    told, state = _follow_up_task(plant, day, tmp_path)
    assert state == "undecided"
    assert [notice["event"] for notice in told] == ["follow_up_failed"]
    assert "nothing was promised of log_loss" in told[0]["subject"]
    note = next(note for note in AuditLog(*plant.about).read().notes if note.kind == "follow_up")
    assert note.reason.startswith("undecided: nothing was promised of log_loss: neither")
    assert len(_follow_up_task(plant, day, tmp_path)[0]) == 1, "it is told once"


def test_a_follow_up_whose_rollback_meets_an_obstacle_tells_people(plant, tmp_path, monkeypatch):
    _watch(plant, windows=1, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST - timedelta(days=1))
    promote(*plant.about, two, "a test", "because", {}, FIRST)
    day = FIRST + timedelta(days=1)
    publish_window(*plant.about, two, day, metric="log_loss", bound=0.6, value=0.9, labelled=300)
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        away = plant.workspace.with_(
            connections=replace(plant.workspace.resolved, mlflow_uri="http://127.0.0.1:9", registry_uri=None)
        )
        for _ in range(2):  # Airflow tries again
            with pytest.raises(ServiceError, match="MLflow did not answer"):
                _follow_up_task(plant, day, tmp_path, away)
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [notice["event"] for notice in told] == ["follow_up_failed"], "it is told once"
    assert "stays in production: MLflow did not answer" in told[0]["subject"]
    plant.workspace.mlflow()
    plant.registered.delete(one)
    told, state = _follow_up_task(plant, day, tmp_path)
    assert state == "failed"
    assert "stays in production" in told[1]["subject"]
    assert "1 before it are not in the registry any more" in told[1]["subject"]
    assert len(_follow_up_task(plant, day, tmp_path)[0]) == 2
    assert current_production(*plant.about) == two


def test_a_follow_up_that_comes_too_late_says_what_is_in_production(plant, monkeypatch):
    _watch(plant, windows=1, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    day = FIRST + timedelta(days=1)
    publish_window(*plant.about, one, day, metric="log_loss", bound=0.6, value=0.9, labelled=300)

    def others_first(*arguments, **named):
        promote(*plant.about, two, "Ann", "mended", {}, SECOND)
        return rollback(*arguments, **named)

    monkeypatch.setattr("penstock.monitoring.follow_up.rollback", others_first)
    found = follow_up_promotion(*plant.about, day)
    assert (found.state, found.production) == ("failed", two)
    assert "It was not rolled back: " in found.reason
    assert "stays in production" not in found.reason


def test_batch_scoring_uses_the_former_version_after_a_rollback(plant):
    from penstock.inference.batch import score_batch

    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    promote(*plant.about, two, "a test", "because", {}, FIRST + timedelta(days=1))
    score_batch(*plant.about, FIRST + timedelta(days=3))
    rollback(*plant.about, "Ann", "it smells")
    score_batch(*plant.about, FIRST + timedelta(days=5))
    scored = read(plant.workspace.addresses.readable(f"{plant.project}.{MODEL}_predictions"))
    assert set(scored[scored.as_of == FIRST + timedelta(days=3)].model_version) == {two}
    assert set(scored[scored.as_of == FIRST + timedelta(days=5)].model_version) == {one}


def _promotion_run(plant: Plant, version: int) -> dict:
    """What the tasks of a model_promotion run do from the compliance check on, each time that somebody clears them."""
    from penstock.operators.promotion import PromoteOperator
    from penstock.registry.approval import shown

    compliance = check_compliance(*plant.about, version, SECOND)
    stage_after_compliance(*plant.about, version, compliance, SECOND)
    comparison = compare_with_production(*plant.about, version, SECOND).to_dict()
    approval = {
        "chosen_options": ["Approve"], "responded_by_user": {"name": "Ann"},
        "shown": shown(*plant.about, comparison).to_dict(),
    }  # fmt: skip
    task = PromoteOperator(
        task_id="to_production", project=plant.project, model=MODEL, root=plant.workspace.root,
        compliance=compliance.to_dict(), comparison=comparison, approval=approval, model_version=version,
    )  # fmt: skip
    return task.run(plant.workspace, SECOND, {"ti": SimpleNamespace(xcom_push=lambda **_: None)})


def test_a_run_cleared_after_a_rollback_is_no_repeat_and_one_cleared_after_others_fails(plant):
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    _promotion_run(plant, two)
    before = plant.state["deployments"]
    assert _promotion_run(plant, two)["stage"] == "Production"
    assert plant.state["deployments"] == before, "again is the same"
    rollback(*plant.about, "Ann", "it smells")
    with pytest.raises(GateError, match=rf"version {two} was rolled back .*penstock allow"):
        _promotion_run(plant, two)
    assert current_production(*plant.about) == one
    allow(*plant.about, two, "Ann", "the sensor was broken")
    _promotion_run(plant, two)
    assert plant.stages() == ["Archived", "Production"]
    before = plant.state["deployments"]
    _promotion_run(plant, two)
    assert plant.state["deployments"] == before
    three = plant.add("second")
    promote(*plant.about, three, "a test", "because", {}, SECOND + timedelta(days=1))
    before = plant.state["deployments"]
    with pytest.raises(GateError, match=rf"version {two} is not in production: .* version {three} since.*later as_of"):
        _promotion_run(plant, two)
    assert plant.state["deployments"] == before


def test_what_only_a_hand_put_into_production_scores_nothing_where_that_is_reverted(make_plant):
    from penstock.inference.batch import score_batch
    from penstock.inference.keys import resolve_model

    plant = make_plant(hand_moved_alias="revert")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    name = f"{plant.project}.{MODEL}"
    plant.registered.move_alias("production", two)
    assert score_batch(*plant.about, FIRST + timedelta(days=1)).model_version == one
    assert plant.registered.aliases() == {"production": one}
    plant.registered.move_alias("production", two)
    assert resolve_model(plant.workspace, f"{name}@production") == f"models:/{name}/{one}"
    assert plant.registered.aliases() == {"production": one}
    by_hand = [row.version for row in AuditLog(*plant.about).read().rows if row.decided_by == settling.BY_HAND]
    assert by_hand == [two, two]
    adopting = make_plant(hand_moved_alias="adopt")
    promote(*adopting.about, adopting.add("first"), "a test", "because", {}, FIRST)
    adopting.registered.move_alias("production", adopting.add("second"))
    assert score_batch(*adopting.about, FIRST + timedelta(days=1)).model_version == 2
    assert adopting.stages() == ["Archived", "Production"]


def test_what_was_changed_since_the_decision_is_not_promoted(plant):
    from penstock.registry.approval import shown

    one = plant.add("first")
    comparison = compare_with_production(*plant.about, one, SECOND).to_dict()
    seen = shown(*plant.about, comparison).to_dict()
    evidence = {"comparison": comparison, "shown": seen}
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(better_by=-1.0))
    with pytest.raises(GateError, match=r"declaration of breaks .* was changed since the comparison"):
        promote(*plant.about, one, "Ann", "fine", evidence, SECOND)
    plant.edit(lambda spec: spec["models"][MODEL].update(description="Other words about the same."))
    with pytest.raises(GateError, match="the comparison was made again after the decision"):
        promote(*plant.about, one, "Ann", "fine", {**evidence, "comparison": {**comparison, "x": 1}}, SECOND)
    assert promote(*plant.about, one, "Ann", "fine", evidence, SECOND).production == one
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(better_by=-1.0))
    assert promote(*plant.about, one, "Ann", "fine", evidence, SECOND).repeated, "it has been decided"


def test_a_killed_rollback_goes_back_once(plant, monkeypatch):
    one, two, three = plant.add("first"), plant.add("second"), plant.add("second")
    for n, version in enumerate((one, two, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client.RegisteredModel, "move_alias", killed)
        with pytest.raises(Killed):
            rollback(*plant.about, "Ann", "it smells")
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
    assert rollback(*plant.about, "Ann", "it smells").version == two
    assert current_production(*plant.about) == two


def test_the_pages_show_figures_and_stages_whatever_else_stands_in_mlflow(trained, stack, monkeypatch):
    """Many runs since, a production version older than those listed, and a stage that only a tag says."""
    import mlflow

    from penstock.ui import mlflow_rest

    monkeypatch.setattr(mlflow_rest, "MOST_VERSIONS", 1)
    workspace = open_workspace(trained.root, trained.lakehouse, stack)
    workspace.mlflow()
    api, name = mlflow.MlflowClient(), f"{trained.project}.{MODEL}"
    experiment = api.get_experiment_by_name(name).experiment_id
    others = [api.create_run(experiment).info.run_id for _ in range(4)]
    api.set_registered_model_alias(name, "production", "1")
    api.set_model_version_tag(name, "3", "penstock.stage", "Archived")
    try:
        view = mlflow_rest.registry_view(workspace, workspace.project(trained.project), MODEL)
        assert [(one.version, one.stage) for one in view.versions] == [(3, "None"), (1, "Production")]
        assert all(one.metrics["log_loss"] > 0 for one in view.versions)
        assert [one.stage for one in versions(workspace, trained.project, MODEL)] == ["Production", "None", "None"]
    finally:
        api.delete_registered_model_alias(name, "production")
        api.delete_model_version_tag(name, "3", "penstock.stage")
        for run in others:
            api.delete_run(run)


def test_a_version_adopted_from_a_hand_gets_its_promises(make_plant):
    plant = make_plant(hand_moved_alias="adopt")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    plant.registered.move_alias("production", two)
    repair(*plant.about, SECOND)
    assert production_since(*plant.about) == SECOND
    done = follow_up(*plant.about, two, SECOND)
    assert (done.decided_by, done.former) == (settling.BY_HAND, one)
    assert done.promised_metrics == promised_metrics(*plant.about, two) != {}
    with pytest.raises(RegistryError, match="never in Production"):
        follow_up(*plant.about, 9)


def test_a_hand_moved_alias_opens_no_way_around_the_gates(make_plant):
    plant = make_plant(hand_moved_alias="revert")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    plant.registered.move_alias("production", two)
    stage_after_compliance(*plant.about, two, check_compliance(*plant.about, two, SECOND), SECOND)
    assert plant.registered.aliases() == {"production": one, "staging": two}
