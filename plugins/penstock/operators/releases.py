"""Operators of rollback, promotion_control and the follow-up: what becomes of what is in production."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context, Param

from penstock.clock import to_text
from penstock.errors import GateError, ServiceError, SpecError
from penstock.notifiers.notice import Notice, notify
from penstock.operators.base import emit
from penstock.operators.links import page
from penstock.operators.promotion import stop_here
from penstock.operators.training import ModelOperator
from penstock.spec.environment import NotificationEvent
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.registry.notes import Note
    from penstock.training.origins import Origin

NOBODY = "Airflow (nobody is named)"
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
    ADOPT = "adopt"


CONTROL_PARAMS = {
    "action": Param(
        type="string", enum=[str(action) for action in Control], title="action",
        description="freeze: stop all promotions of the model; unfreeze: let them go on; "
        "allow: let a version that was rolled back be promoted again; "
        "adopt: take responsibility for a version that this environment's reviewed code did not train.",
    ),
    "model_version": Param(
        None, type=["null", "integer"], minimum=1, title="model version",
        description="Of allow and adopt: which version.",
    ),
    "trust_pickle": Param(
        False, type="boolean", title="trust pickle",
        description="Of adopt: you vouch for files that run code when they are loaded, too.",
    ),
    "reason": REASON,
}  # fmt: skip


class RollbackOperator(ModelOperator):
    """The former production version is production again, in the name of who started the run."""

    template_fields: Sequence[str] = ModelOperator.template_fields

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.rolling_back.rollback. A try again answers with what the first came to."""
        from penstock.registry.rolling_back import rollback, version_to_leave

        params = context["params"]
        # a try again must not go one version further: what leaves is what the first try found
        memory = context["task_state_store"]
        leaving = params.get("from_version") or memory.get("leaving")
        if not leaving:
            leaving = version_to_leave(workspace, self.project, self.model, as_of)
            if leaving:  # else the rollback says that there was nothing in production
                memory.set("leaving", leaving)
        done = rollback(
            workspace, self.project, self.model, person(context), str(params["reason"]), from_version=leaving,
            to_version=params.get("to_version"), as_of=as_of, check=not params.get("unchecked"),
        )  # fmt: skip
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of), model_version=done.production)
        return done


class PromotionControlOperator(ModelOperator):
    """Freezes a model's promotions, lets them go on, lets a version come back, or adopts one from elsewhere."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.freezing and penstock.registry.adoption, in the name of who started the run."""
        params = context["params"]
        action = Control(params["action"])
        done = self._decide(action, workspace, as_of, context)
        self.log.info("%s of %s by %s: %s", action, self.model, done.decided_by, done.reason)
        if action in (Control.ALLOW, Control.ADOPT):
            self.log.info(
                "its gates are still to pass: trigger %s.%s.model_promotion with model_version %s",
                self.project, self.model, done.version,
            )  # fmt: skip
        return {"action": str(action), "decided_by": done.decided_by, "reason": done.reason, "version": done.version}

    def _decide(self, action: Control, workspace: Workspace, as_of: datetime, context: Context) -> "Note | Origin":
        from penstock.registry import freezing
        from penstock.registry.adoption import adopt_version

        params, about = context["params"], (workspace, self.project, self.model)
        decided_by, reason = person(context), str(params["reason"])
        if action is Control.FREEZE:
            return freezing.freeze(*about, decided_by, reason, as_of)
        if action is Control.UNFREEZE:
            return freezing.unfreeze(*about, decided_by, reason, as_of)
        if not params.get("model_version"):
            raise SpecError(f'which version? To {action} one, give model_version, such as {{"model_version": 3}}')
        version = int(params["model_version"])
        if action is Control.ALLOW:
            return freezing.allow(*about, version, decided_by, reason, as_of)
        if decided_by == NOBODY:
            raise GateError(
                f"{self.project}.{self.model} version {version}: who adopts it? Airflow names nobody for this run: "
                "start promotion_control in the pages or over REST, logged in as the person who decides"
            )
        trusts = bool(params.get("trust_pickle"))
        return adopt_version(*about, version, decided_by, reason, as_of, trust_pickle=trusts)


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
        if found.try_again:
            raise ServiceError(found.reason)
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
    """Who started the run, as Airflow knows them; NOBODY where it does not."""
    return context["dag_run"].triggering_user_name or NOBODY
