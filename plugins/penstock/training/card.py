"""The model card: what a person reads before trusting a version (after Mitchell et al., Model Cards, FAT* 2019).

model_card.md and model_card.html lie with the run's artifacts. They are put together from what the steps before left
there and from the declaration, without the data: writing one again is cheap, and needs neither Spark nor the model.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.training.card_sections import Card, write_sections
from penstock.training.errors import TrainingError
from penstock.training.evaluate import read_report
from penstock.training.explain import EXPLANATION, Explanation
from penstock.training.markdown import page
from penstock.training.run_version import version_of
from penstock.training.runs import TrainingRun, open_run, tracking
from penstock.workspace import Workspace

CARD = "model_card.md"
CARD_PAGE = "model_card.html"


@dataclass(frozen=True)
class WrittenCard:
    """The card of a run; version: None before it is registered."""

    run_id: str
    version: int | None


def card_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> WrittenCard:
    """Writes the card of an evaluated and explained run; a repeat replaces it. Registering writes it, too.

    Raises TrainingError for an unknown run, or one that lacks its evaluation or explanation.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        with card_writer(run) as write:
            return write(version_of(run))


@contextmanager
def card_writer(run: TrainingRun) -> Iterator[Callable[[int | None], WrittenCard]]:
    """Within it, a function that writes the card of a run for the version that it became (None: not registered).

    Raises TrainingError where the run lacks its evaluation or explanation.
    """
    from mlflow.artifacts import download_artifacts

    run_id, report, explanation = run.run.info.run_id, read_report(run), _explanation(run)
    with tempfile.TemporaryDirectory() as given:
        plots = Path(download_artifacts(f"runs:/{run_id}/plots", dst_path=given))
        pictures = {path.name for path in plots.iterdir()}

        def write(version: int | None) -> WrittenCard:
            card = Card(run, version, report, explanation, pictures)
            text = write_sections(card)
            with run.artifacts() as folder:
                (folder / CARD).write_text(text, encoding="utf-8")
                (folder / CARD_PAGE).write_text(page(text, card.title, plots.parent), encoding="utf-8")
            return WrittenCard(run_id, version)

        yield write


def _explanation(run: TrainingRun) -> Explanation:
    from mlflow.artifacts import load_dict

    if EXPLANATION not in run.artifact_names():
        raise TrainingError(f"run {run.run.info.run_id} of {run.name} is not explained yet: explain it first")
    return Explanation(**load_dict(f"runs:/{run.run.info.run_id}/{EXPLANATION}"))
