"""What people are told, and the notifiers of the environment that tell it."""

import html
import importlib
from dataclasses import asdict, dataclass
from typing import Any

from airflow.sdk import Context

from penstock.errors import SpecError
from penstock.spec.environment import Environment, Notification, NotificationEvent


@dataclass(frozen=True)
class Notice:
    """One piece of news. Arguments of a notifier use it as `{{ notice.subject }}`, `{{ notice.text }}`, …"""

    event: NotificationEvent
    project: str
    model: str
    version: int | None
    subject: str
    text: str
    link: str

    @property
    def html(self) -> str:
        """The text and the link, for e-mail."""
        link = html.escape(self.link, quote=True)
        return f'<pre>{html.escape(self.text)}</pre><p><a href="{link}">{link}</a></p>'

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "event": str(self.event)}


def notify(environment: Environment, notice: Notice, context: Context, log: Any) -> None:
    """Sends a notice through every notifier of the environment that wants its event.

    A notifier that fails is logged and holds nothing up: a decision does not depend on a mail server.
    """
    for wanted in environment.notifications:
        if notice.event not in wanted.events:
            continue
        try:
            _make(wanted)({**context, "notice": notice})
        except Exception as error:
            log.warning("%s could not tell that %s: %s", wanted.notifier, notice.subject, error)
        else:
            log.info("%s told: %s", wanted.notifier, notice.subject)


def _make(wanted: Notification) -> Any:
    module, _, name = wanted.notifier.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"notifications: there is no {wanted.notifier} ({error}): is its package installed?") from error
    return found(**wanted.arguments)
