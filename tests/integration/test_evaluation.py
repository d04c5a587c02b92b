"""What evaluation, explanation and profile leave with a run: figures, pictures, the card, and its pages."""

from collections.abc import Iterator
from types import SimpleNamespace

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, load_dict, load_text

from penstock.profiles import Profile
from penstock.registry.reproduction import TAG
from penstock.training.card import card_model
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.register import RegisteredVersion
from penstock.training.scoring import load_scorer_from
from penstock.training.train import train_model
from penstock.workspace import Lineage, Workspace
from tests.integration.orders import AS_OF, PROJECT, orders, registered, shop, trained, training_set

__all__ = ["registered", "shop", "trained"]

PICTURES = [
    "calibration", "confusion", "costs", "importance", "precision_recall", "roc", "shap_summary", "slices"
]  # fmt: skip


@pytest.fixture(scope="module")
def run(registered: RegisteredVersion):
    """The run with everything that the steps after training add."""
    return MlflowClient().get_run(registered.run_id)


def test_a_run_holds_metrics_pictures_and_a_description(run, registered):
    client = MlflowClient()
    plots = {item.path for item in client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in PICTURES}
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {item.path for item in client.list_artifacts(run.info.run_id, "tuning")} == {"tuning/history.png"}
    assert {"trials.csv", "importance.csv", "profile.json", "description.md", "evaluation", "model_card.md"} <= names
    assert run.data.metrics["log_loss"] < run.data.metrics["heuristic_log_loss"]
    assert run.data.metrics["cost"] < run.data.metrics["heuristic_cost"]
    text = load_text(f"runs:/{run.info.run_id}/description.md")
    for part in ("What happens to an order.", "Not for real customers.", "the shop's team", "log_loss", AS_OF,
                 f"{PROJECT}.orders, version 0", "amount", "`days > 14`", "All its 4,000 rows were used."):  # fmt: skip
        assert part in text


def test_slices_add_up_to_the_hold_out_block(run):
    found = pd.read_csv(download_artifacts(f"runs:/{run.info.run_id}/evaluation/slices.csv"))
    counts = found.groupby("column")["rows"].sum()
    assert counts.to_dict() == dict.fromkeys(["channel", "amount"], int(run.data.params["hold_out.rows"]))
    assert {"channel=web", "channel missing", "amount missing"} <= set(found["slice"])
    judged = found[found["reason"].isna()]
    assert len(judged) >= 6
    assert ((judged["cost_low"] <= judged["cost"]) & (judged["cost"] <= judged["cost_high"])).all()
    assert (judged["log_loss_low"] < judged["log_loss_high"]).all()


def test_metrics_lie_within_their_intervals_and_the_threshold_is_a_tag(run, registered):
    found = run.data.metrics
    for name in ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy", "cost"):
        assert found[f"interval_low_{name}"] < found[name] < found[f"interval_high_{name}"]
    assert 0 < found["threshold_value"] < 0.5  # a miss costs five times a false alarm
    version = MlflowClient().get_model_version(registered.name, registered.version)
    assert float(version.tags["penstock.threshold"]) == pytest.approx(found["threshold_value"], rel=1e-5)
    assert found["calibration_error"] < 0.2


def test_the_card_tells_what_a_person_must_know_and_stands_alone(run, registered):
    text = load_text(f"runs:/{run.info.run_id}/model_card.md")
    for part in (f"# {registered.name}, version {registered.version}", "Not for real customers.", "the shop's team",
                 f"`{PROJECT}.late_training_set@0`", f"`{PROJECT}.orders`", "`days > 14`", "`channel=web`",
                 "- shown to be better than the version in production (rule `superior`)", "All its 4,000 rows",
                 "costs least on the tuning block", "expected calibration error", "Where the model is worst",
                 "plots/shap_summary.png", run.info.run_id):  # fmt: skip
        assert part in text
    page = load_text(f"runs:/{run.info.run_id}/model_card.html")
    assert page.count("data:image/png;base64,") == len(PICTURES) - 1  # importance is a table there
    assert "is missing" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.fixture
def pages(shop: Workspace) -> Iterator[TestClient]:
    """Penstock's pages as Airflow mounts them, for somebody who may read every project."""
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    from penstock.ui import catalogue
    from penstock.ui.app import app

    create_auth_manager()
    app.dependency_overrides = {
        get_user: lambda: SimpleAuthManagerUser(username="ada", role="viewer"),
        catalogue.open_workspace: lambda: shop,
    }
    with TestClient(app, follow_redirects=False, headers={"accept": "text/html"}) as client:
        yield client
    app.dependency_overrides = {}
    purge_cached_app()


def test_the_pages_show_a_card_by_version_and_by_run_and_none_of_another_model(pages, registered, trained):
    frame = f"/cards/{PROJECT}/late/{trained.run_id}"
    for query in (f"version={registered.version}", f"run={trained.run_id}"):
        page = pages.get(f"/cards/{PROJECT}/late?{query}")
        assert page.status_code == 200
        assert f'src="{frame}"' in page.text
    card = pages.get(frame)
    assert f"version {registered.version}</h1>" in card.text
    policy = card.headers["content-security-policy"]
    assert "img-src data:" in policy
    assert "script-src" not in policy
    assert policy.endswith("sandbox")
    assert pages.get(f"/cards/{PROJECT}/days/{trained.run_id}").status_code == 404
    assert pages.get(f"/cards/{PROJECT}/late?version=99").status_code == 404


def test_the_models_page_says_whether_a_version_was_built_again_and_where_that_is_done(pages, registered):
    from penstock.ui.airflow_facts import airflow_facts

    said = "identical at 2024-05-01T10:00:00Z: all"
    MlflowClient().set_model_version_tag(registered.name, registered.version, TAG, said)
    pages.app.dependency_overrides[airflow_facts] = lambda: SimpleNamespace(
        questions=lambda _: []
    )  # no Airflow's database
    page = pages.get(f"/models/{PROJECT}/late").text
    assert f'title="{said}">identical at 2024-05-01T10:00:00Z</span>' in page
    assert f'/dags/{PROJECT}.late.reproduction"' in page
    assert "allow or adopt a version" in page


def test_before_a_run_has_a_card_its_page_says_what_writes_one(pages, shop):
    hasty = train_model(shop.with_(lineage=Lineage(run="hasty")), PROJECT, "late", training_set(shop, "late"))
    answer = pages.get(f"/cards/{PROJECT}/late?run={hasty.run_id}")
    assert answer.status_code == 404
    assert "Registering a model writes its card" in answer.text


def test_a_regression_has_residuals_in_place_of_probabilities(shop):
    unregistered = shop.with_(lineage=Lineage(run="unregistered"))
    found = train_model(unregistered, PROJECT, "days", training_set(shop, "days"))
    reached = evaluate_model(shop, PROJECT, "days", found.run_id)
    explain_model(shop, PROJECT, "days", found.run_id)
    card_model(shop, PROJECT, "days", found.run_id)
    plots = {item.path for item in MlflowClient().list_artifacts(found.run_id, "plots")}
    assert plots == {
        f"plots/{name}.png" for name in ("predicted_vs_actual", "residuals", "slices", "importance", "shap_summary")
    }
    assert reached.threshold is None
    assert set(reached.intervals) == {"rmse", "mae", "r2"}
    report = load_dict(f"runs:/{found.run_id}/evaluation/hold_out.json")
    assert report["calibration"] is None
    assert report["residual_quantiles"]["5%"] < 0 < report["residual_quantiles"]["95%"]
    text = load_text(f"runs:/{found.run_id}/model_card.md")
    assert f"# {PROJECT}.days, not registered" in text
    assert "## Residuals" in text
    assert "## Threshold" not in text


def test_the_profile_is_of_the_training_features_and_the_hold_out_predictions(shop, run, trained):
    profile = Profile.from_json(load_text(f"runs:/{run.info.run_id}/profile.json"))
    frame = orders("classification")
    learned = frame[frame.prediction_time <= pd.Timestamp(trained.boundaries.tune_after)]
    held_out = frame[frame.prediction_time > pd.Timestamp(trained.trained_until)]
    assert profile.rows == len(learned) == trained.rows.training
    assert profile.columns["amount"].mean == pytest.approx(learned["amount"].mean())
    assert profile.columns["channel"].kind == "categorical"
    predicted = load_scorer_from(shop, trained.model_uri).predict(held_out)
    assert profile.prediction.mean == pytest.approx(predicted.mean())
    assert profile.metrics["log_loss"] == run.data.metrics["log_loss"]
