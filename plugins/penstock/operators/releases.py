"""Operators of rollback, promotion_control and the follow-up: what becomes of what is in production."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow.sdk import Context, Param

from penstock.clock import to_text
from penstock.errors import SpecError
from penstock.notifiers.notice import Notice, notify
from penstock.operators.base import emit
from penstock.operators.links import page
from penstock.operators.promotion import stop_here
from penstock.operators.training import ModelOperator
from penstock.spec.environment import NotificationEvent
from penstock.workspace import Workspace

REASON = Param(type="string", minLength=1, title="reason", description="Why; kept in the audit.")
ROLLBACK_PARAMS = {
    "reason": REASON,
    "from_version": Param(
        None, type=["null", "integer"], minimum=1, title="from version",
        description="Only if this version is in production; the current one by default.",
    ),
    "to_version": Param(
        None, type=["null", "integer"], minimum=1, title="to version",
        description="The version to go back to; the former one by default.",
    ),
    "unchecked": Param(
        False, type="boolean", title="unchecked",
        description="Go back without looking whether the former version can still score.",
    ),
}  # fmt: skip


class Control(StrEnum):
    """What promotion_control does."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    ALLOW = "allow"


CONTROL_PARAMS = {
    "action": Param(
        type="string", enum=[str(action) for action in Control], title="action",
        description="freeze: stop all promotions of the model; unfreeze: let them go on; "
        "allow: let a version that was rolled back be promoted again.",
    ),
    "model_version": Param(
        None, type=["null", "integer"], minimum=1, title="model version", description="Of allow: which version."
    ),
    "reason": REASON,
}  # fmt: skip


class RollbackOperator(ModelOperator):
    """The former production version is production again, in the name of who started the run."""

    template_fields: Sequence[str] = ModelOperator.template_fields

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.rolling_back.rollback. A try again answers with what the first came to."""
        from penstock.registry.rolling_back import rollback
        from penstock.registry.stages import current_production

        params = context["params"]
        # a try again must not go one version further: what the first try found in production is what leaves
        memory = context["task_state_store"]
        leaving = params.get("from_version") or memory.get("leaving")
        if not leaving:
            leaving = current_production(workspace, self.project, self.model)
            if leaving:  # else the rollback says that there is nothing in production
                memory.set("leaving", leaving)
        done = rollback(
            workspace, self.project, self.model, person(context), str(params["reason"]), from_version=leaving,
            to_version=params.get("to_version"), as_of=as_of, check=not params.get("unchecked"),
        )  # fmt: skip
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of), model_version=done.production)
        return done


class PromotionControlOperator(ModelOperator):
    """Freezes a model's promotions, lets them go on, or lets a version come back."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.freezing."""
        from penstock.registry import freezing

        params = context["params"]
        action, reason, version = Control(params["action"]), str(params["reason"]), params.get("model_version")
        about = (workspace, self.project, self.model)
        if action is Control.FREEZE:
            note = freezing.freeze(*about, person(context), reason, as_of)
        elif action is Control.UNFREEZE:
            note = freezing.unfreeze(*about, person(context), reason, as_of)
        elif version:
            note = freezing.allow(*about, int(version), person(context), reason, as_of)
        else:
            raise SpecError('which version is allowed? Give model_version, such as {"model_version": 3}')
        self.log.info("%s of %s by %s: %s", action, self.model, note.decided_by, note.reason)
        return {"action": str(action), "decided_by": note.decided_by, "reason": note.reason, "version": note.version}


class FollowUpOperator(ModelOperator):
    """Holds the first windows of a new production version against its promise; ends the run unless it rolls back."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.monitoring.follow_up.follow_up_promotion; tells people of a promise that is broken, or that
        nobody can hold the version to.
        """
        from penstock.monitoring.follow_up import FollowUpState, follow_up_promotion

        found = follow_up_promotion(workspace, self.project, self.model, as_of)
        for line in found.lines:
            self.log.info("%s", line)
        rolled_back = found.state is FollowUpState.ROLLED_BACK
        if found.news and found.state is not FollowUpState.HELD:
            event = NotificationEvent.ROLLED_BACK if rolled_back else NotificationEvent.FOLLOW_UP_FAILED
            link = page("models", self.project, self.model)
            notice = Notice(
                event, self.project, self.model, found.version, found.reason, "\n".join(found.lines), link
            )  # fmt: skip
            notify(workspace.environment, notice, context, self.log)
        if not rolled_back:
            stop_here(self, context, f"{found.state}: {found.reason}", {"state": str(found.state)})
        return {"state": str(found.state), "version": found.version, "production": found.production}


class AnnounceProductionOperator(ModelOperator):
    """Tells whoever waits for it (an asset event) that the production version changed."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Emits the event of each outlet."""
        from penstock.registry.stages import current_production

        production = current_production(workspace, self.project, self.model)
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of), model_version=production)
        return {"production": production}


def person(context: Context) -> str:
    """Who started the run, as Airflow knows them."""
    return context["dag_run"].triggering_user_name or "Airflow (nobody is named)"
