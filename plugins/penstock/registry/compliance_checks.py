"""What must hold for any version before it may be compared: one function for each check."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError, ServiceError
from penstock.gates import Check, Outcome
from penstock.lakehouse.addresses import Address
from penstock.registry.candidates import Sample, sample_rows
from penstock.registry.client import RegisteredModel
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Column, Task
from penstock.training.errors import ScoringError
from penstock.training.scoring import Scorer
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_MOST_NAMED = 5


@dataclass(frozen=True)
class Subject:
    """The version that is checked."""

    workspace: Workspace
    project: LoadedProject
    model_name: str
    registered: RegisteredModel
    version: "ModelVersion"

    @property
    def uri(self) -> str:
        """MLflow's address of the version."""
        return f"models:/{self.registered.name}/{self.version.version}"


def check_signature(subject: Subject, scorer: Scorer) -> Check:
    """The model has a signature, and its inputs are the features of feature_spec.json."""
    from mlflow.exceptions import MlflowException
    from mlflow.models import get_model_info

    try:
        signature = get_model_info(subject.uri).signature
    except MlflowException as error:
        raise ServiceError(f"{subject.uri}: MLflow did not hand out its signature: {str(error)[:300]}") from error
    if signature is None or not signature.inputs:
        return Check(
            "signature", Outcome.FAIL, "the model has no signature: log it with one (mlflow.models.infer_signature)"
        )
    named, expected = signature.inputs.input_names(), scorer.columns.names
    if sorted(named) != sorted(expected):
        odd = sorted(set(named) ^ set(expected))
        return Check("signature", Outcome.FAIL, f"signature and feature_spec.json differ in {_some(odd)}")
    return Check("signature", Outcome.PASS, f"its signature names its {len(named)} features")


def check_description(subject: Subject, described: str) -> Check:
    """The version, or its run, says what it is."""
    text = described.strip() or (subject.registered.run_text(subject.version, "description.md") or "").strip()
    if not text:
        return Check(
            "description", Outcome.FAIL,
            "the version has no description, and its run no description.md: explain the model, or write one in MLflow",
        )  # fmt: skip
    return Check("description", Outcome.PASS, f"described in {len(text.split())} words")


def check_responsibility(subject: Subject) -> Check:
    """The declaration names an owner and the model's limits; missing limits only warn."""
    model = subject.project.model(subject.model_name)
    owner = model.owner or subject.project.spec.owner
    if not model.limits.strip():
        file = subject.project.folder / "project.yaml"
        return Check(
            "owner and limits", Outcome.WARN,
            f"{owner} owns it, but {file} declares no limits of {subject.model_name}: say what it must not be used for",
        )  # fmt: skip
    return Check("owner and limits", Outcome.PASS, f"{owner} owns it; its limits are declared")


def check_tags(subject: Subject) -> Check:
    """Every tag in promotion.required_tags is there and not empty."""
    required = subject.project.model(subject.model_name).promotion.required_tags
    missing = [name for name in required if not subject.version.tags.get(name, "").strip()]
    if missing:
        return Check(
            "required tags", Outcome.FAIL, f"the version lacks the required tag(s) {', '.join(missing)}",
            {"required": required, "missing": missing},
        )  # fmt: skip
    return Check("required tags", Outcome.PASS, f"has the {len(required)} required tags", {"required": required})


def check_scores(subject: Subject, scorer: Scorer) -> Check:
    """The model answers real rows with finite numbers (probabilities, for a classification); their statistics."""
    sample = sample_rows(subject.workspace, subject.registered, subject.version, scorer)
    if sample is None:
        return Check(
            "scores", Outcome.FAIL,
            "nothing to try it on: its training set (tag penstock.training_set) is gone, and it stores no example rows",
        )  # fmt: skip
    try:
        prediction = scorer.predict(sample.rows)
    except ScoringError as error:
        return Check("scores", Outcome.FAIL, f"it does not score rows of {sample.source}: {error}")
    except Exception as error:  # a model's library raises whatever it likes
        return Check(
            "scores", Outcome.FAIL, f"it fails on rows of {sample.source}: {type(error).__name__}: {str(error)[:300]}"
        )
    return _judge_predictions(prediction, sample, scorer.task)


def check_features_declared(subject: Subject, scorer: Scorer) -> Check:
    """Each feature, and the entity's keys and prediction time, are columns of today's declarations."""
    missing, changed = [], []
    for address, column, kind in _needed_columns(subject, scorer.feature_spec):
        declared = _declared_column(subject.workspace, address, column)
        if declared is None:
            missing.append(f"{address}.{column}")
        elif kind is not None and str(declared.type) != kind:
            changed.append(f"{address}.{column} (was {kind}, is {declared.type})")
    if missing:
        return Check(
            "features declared", Outcome.FAIL, f"today's project does not declare {_some(missing)}, which it needs",
            {"missing": missing},
        )  # fmt: skip
    if changed:
        return Check(
            "features declared", Outcome.WARN, f"declared with another type than in training: {_some(changed)}",
            {"changed": changed},
        )  # fmt: skip
    return Check("features declared", Outcome.PASS, "today's project declares all that it needs")


def check_features_in_lakehouse(subject: Subject, scorer: Scorer) -> Check:
    """The tables and columns of its features exist in the lakehouse."""
    from deltalake import DeltaTable

    found: dict[Address, set[str] | None] = {}
    missing = []
    for address, column, _ in _needed_columns(subject, scorer.feature_spec):
        if address not in found:
            path = subject.workspace.addresses.find(address)
            found[address] = {field.name for field in DeltaTable(path).schema().fields} if path else None
        columns = found[address]
        if columns is None or column not in columns:
            missing.append(f"{address}.{column}" if columns is not None else f"{address} (no such table)")
    missing = list(dict.fromkeys(missing))
    if missing:
        return Check(
            "features in the lakehouse", Outcome.FAIL,
            f"the lakehouse does not have {_some(missing)}: refresh the features, or train without them",
            {"missing": missing},
        )  # fmt: skip
    tables = ", ".join(sorted(map(str, found)))
    return Check("features in the lakehouse", Outcome.PASS, f"all there, in {tables}")


def _needed_columns(subject: Subject, spec: dict[str, Any]) -> Iterator[tuple[Address, str, str | None]]:
    """(table, column, type) of keys, prediction time, on-demand inputs (type None), and of each stored feature."""
    project = subject.project.name
    entity = Address.parse(spec["entity"]["table"], project)
    for column in [*spec["entity"]["keys"], spec["entity"]["prediction_time"]]:
        yield entity, column, None
    computed = spec.get("on_demand", {})
    others = {feature["name"] for feature in spec["features"]} | {"prediction_time"}
    for column in dict.fromkeys(name for item in computed.values() for name in item["inputs"]):
        if column not in others:
            yield entity, column, None
    for feature in spec["features"]:
        if feature["name"] in computed:
            continue
        if feature["source"] == "entity":
            yield entity, feature["name"], feature["type"]
        else:
            table, _, column = feature["source"].rpartition(".")
            yield Address.parse(table, project), column, feature["type"]


def _declared_column(workspace: Workspace, address: Address, column: str) -> Column | None:
    try:
        table = workspace.declared_table(address)
    except PenstockError:
        return None
    return table.columns.get(column) if table else None


def _judge_predictions(prediction: Any, sample: Sample, task: Task) -> Check:
    import numpy as np

    infinite = int((~np.isfinite(prediction)).sum())
    if infinite:
        detail = f"{infinite} of {len(prediction)} predictions on rows of {sample.source} are no finite numbers"
        return Check("scores", Outcome.FAIL, detail)
    low, quarter, half, three_quarters, high = (float(x) for x in np.quantile(prediction, [0, 0.25, 0.5, 0.75, 1]))
    evidence = {
        "rows": len(prediction), "source": sample.source, "mean": float(prediction.mean()),
        "std": float(prediction.std()), "min": low, "quartiles": [quarter, half, three_quarters], "max": high,
    }  # fmt: skip
    middle = f"half of them in {quarter:.4g} to {three_quarters:.4g}"
    figures = f"mean {evidence['mean']:.4g}, from {low:.4g} to {high:.4g}, {middle}"
    if task is Task.CLASSIFICATION and (low < 0 or high > 1):
        return Check("scores", Outcome.FAIL, f"its predictions are no probabilities: {figures}", evidence)
    return Check("scores", Outcome.PASS, f"{len(prediction)} rows of {sample.source}: {figures}", evidence)


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
