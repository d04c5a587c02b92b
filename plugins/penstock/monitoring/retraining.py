"""Decides whether a model is trained again, and keeps the decision with its evidence."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import now, parse_as_of, to_text
from penstock.errors import NothingToDo
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SystemTable
from penstock.monitoring.metric_rows import HAND_BACK
from penstock.monitoring.retraining_policy import Decision, Facts, Ruling, policy
from penstock.spec.project import Retraining
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RetrainingDecision:
    """`retrain`, `no` or `hand_back`, the reasons as sentences, and the facts and rules that led there."""

    project: str
    model: str
    as_of: str
    decision: str
    reasons: list[str]
    evidence: dict[str, Any]
    production_version: int | None


def decide_retraining(workspace: Workspace, project: str, model: str, as_of: datetime) -> RetrainingDecision:
    """Decides by the spec's rules on what is known at as_of, and writes it to `retraining_decisions`.

    A transition that a killed run left half done is finished first: the decision rests on a settled audit.

    A hand-back is an alert as well, so that people hear of it. Raises NothingToDo where a decision of a
    later as_of exists, and where one of this as_of led to another production version: it stands.
    """
    from penstock.monitoring.retraining_facts import gather_facts
    from penstock.registry.production import settled_production

    spec = workspace.project(project).model(model)
    past = _past_decisions(workspace, project, model)
    production = settled_production(workspace, project, model, as_of)
    _check_order(project, model, as_of, past, production)
    facts = gather_facts(workspace, project, model, as_of, production, _last_retrain(past, as_of))
    ruling = policy(facts, spec.retraining)
    decision = RetrainingDecision(
        project=project,
        model=model,
        as_of=to_text(as_of),
        decision=str(ruling.decision),
        reasons=ruling.reasons,
        evidence=_evidence(facts, spec.retraining),
        production_version=production,
    )
    _write_alert(workspace, decision, facts, ruling)
    _write(workspace, decision)
    return decision


def _past_decisions(workspace: Workspace, project: str, model: str) -> "pd.DataFrame | None":
    from penstock.lakehouse.small_tables import read

    path = workspace.addresses.find(f"{project}.{SystemTable.RETRAINING_DECISIONS}")
    return None if path is None else read(path, filters=[("model", "=", model)])


def _check_order(
    project: str, model: str, as_of: datetime, past: "pd.DataFrame | None", production: int | None
) -> None:
    if past is None or past.empty:
        return
    last = past["as_of"].max()
    if as_of < last:
        raise NothingToDo(
            f"{project}.{model}: retraining was decided as of {to_text(last)} already: "
            f"the earlier {to_text(as_of)} writes nothing"
        )
    same = past[(past["as_of"] == as_of) & (past["decision"] == Decision.RETRAIN)]
    if len(same) and same.iloc[0]["production_version"] != production:
        raise NothingToDo(
            f"{project}.{model}: as of {to_text(as_of)} it was decided to train version "
            f"{same.iloc[0]['production_version']} again, and version {production} is in production now: it stands"
        )


def _last_retrain(past: "pd.DataFrame | None", as_of: datetime) -> datetime | None:
    """The as_of of the newest earlier decision to retrain; one of this as_of is being decided again."""
    if past is None:
        return None
    earlier = past[(past["decision"] == Decision.RETRAIN) & (past["as_of"] < as_of)]["as_of"]
    return None if earlier.empty else earlier.max().to_pydatetime()


def _evidence(facts: Facts, rules: Retraining) -> dict[str, Any]:
    """The facts and the rules as JSON values."""
    found = json.loads(json.dumps(asdict(facts), default=lambda moment: to_text(moment)))
    return {"facts": found, "rules": rules.model_dump(mode="json")}


def _write(workspace: Workspace, decision: RetrainingDecision) -> None:
    from penstock.lakehouse.small_tables import write_system_rows

    row = {
        "model": decision.model,
        "as_of": parse_as_of(decision.as_of),
        "decision": decision.decision,
        "reasons": json.dumps(decision.reasons, ensure_ascii=False),
        "evidence": json.dumps(decision.evidence, ensure_ascii=False),
        "production_version": decision.production_version,
        "decided_at": now(),
        "run": workspace.lineage.run,
    }
    path = workspace.addresses.writable(f"{decision.project}.{SystemTable.RETRAINING_DECISIONS}")
    write_system_rows(path, SystemTable.RETRAINING_DECISIONS, [row], _commit(workspace, decision))


def _write_alert(workspace: Workspace, decision: RetrainingDecision, facts: Facts, ruling: Ruling) -> None:
    """The alert of a hand-back; a decision that is none any more takes it away."""
    from penstock.lakehouse.small_tables import write_system_rows
    from penstock.monitoring.publication import Scope, remove_stale

    if facts.window_end is None or facts.window_start is None:
        return
    path = workspace.addresses.writable(f"{decision.project}.{SystemTable.ALERTS}")
    commit = _commit(workspace, decision)
    rows = []
    if ruling.decision is Decision.HAND_BACK:
        rows = [
            {
                "model": decision.model, "model_version": facts.production_version, "window_start": facts.window_start,
                "window_end": facts.window_end, "kind": HAND_BACK, "column": "", "metric": str(Decision.HAND_BACK),
                "message": " ".join(ruling.reasons), "as_of": parse_as_of(decision.as_of), "raised_at": now(),
                "run": workspace.lineage.run,
            }
        ]  # fmt: skip
        write_system_rows(path, SystemTable.ALERTS, rows, commit)
    scope = Scope(decision.model, frozenset({(to_text(facts.window_end), HAND_BACK)}))
    remove_stale(path, scope, rows, commit)


def _commit(workspace: Workspace, decision: RetrainingDecision) -> Any:
    folder = workspace.project(decision.project).folder
    return record(parse_as_of(decision.as_of), folder=folder, run=workspace.lineage.run)
