"""A notifier for machines without mail or chat: lines in a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from airflow.sdk import BaseNotifier, Context

from penstock.clock import now, to_text


class FileNotifier(BaseNotifier):
    """Appends each notice to a file, as one line of JSON.

    :param path: the file; its folder is made.
    """

    template_fields: Sequence[str] = ("path",)

    def __init__(self, *, path: str) -> None:
        super().__init__()
        self.path = path

    def notify(self, context: Context) -> None:
        """Appends the line in one write, so that several processes do not mix theirs."""
        file = Path(self.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"at": to_text(now()), **context["notice"].to_dict()})  # type: ignore[typeddict-item]
        with file.open("a", encoding="utf-8") as opened:
            opened.write(line + "\n")
