"""The loop is killed at random moments and run again: the tables equal an undisturbed run's."""

import random
import time
from pathlib import Path

import pandas as pd
import pytest

from penstock.workspace import Workspace
from tests.integration.forked import Command, start
from tests.integration.refreshing import copy_root

KILLS = 12
LOOP = [
    ("feature_refresh", "", "2024-02-10"), ("training", ".energy", "2024-02-10"),
    ("feature_refresh", "", "2024-03-16"), ("batch_inference", ".energy", "2024-03-16"),
    ("monitoring", ".energy", "2024-03-16"), ("retraining", ".energy", "2024-03-16"),
]  # fmt: skip
# What may differ between two runs of the same: ids, wall times, and versions of Delta tables.
DIFFERS = {
    "run", "scored_at", "computed_at", "raised_at", "decided_at", "compared_at", "quarantined_at", "requested_at",
    "completed_at", "transition_id", "evidence", "inputs",
}  # fmt: skip
TABLES = [
    "slots", "yields", "conditions", "turbine_daily", "park_wind", "energy_training_set", "energy_predictions",
    "monitoring_metrics", "alerts", "retraining_decisions", "model_comparisons", "deployments",
]  # fmt: skip


@pytest.mark.timeout(1500)  # some twenty commands
def test_killed_twelve_times_the_tables_equal_an_undisturbed_run(stack: object, tmp_path: Path) -> None:
    calm, killed = _root(tmp_path / "calm", "calm"), _root(tmp_path / "killed", "killed")
    seconds = {step: _finish(calm, step) for step in LOOP}
    chance = random.Random(3)
    kills = [LOOP[i % len(LOOP)] for i in range(KILLS)]
    for step in LOOP:
        for _ in range(kills.count(step)):
            _kill(killed, step, chance.uniform(0.3, 1.0) * seconds[step])
        _finish(killed, step)
    for table in TABLES:
        expected, found = _table(calm, "calm", table), _table(killed, "killed", table)
        assert len(expected) > 0, table
        pd.testing.assert_frame_equal(found, expected, obj=table)


def _root(folder: Path, project: str) -> Path:
    folder.mkdir()
    root = copy_root(folder)
    environment = root / "include/environments/dev.yaml"
    environment.write_text(
        environment.read_text().replace("mode: human", "mode: automatic")
        .replace("${PENSTOCK_HOME}/dev/lakehouse", str(folder / "lakehouse"))
    )  # fmt: skip
    projects = root / "include/projects"
    (projects / "wind_parks").rename(projects / project)
    declaration = projects / project / "project.yaml"
    declaration.write_text(declaration.read_text().replace("name: wind_parks", f"name: {project}"))
    return root


def _start(root: Path, step: tuple[str, str, str]) -> Command:
    pipeline, model, as_of = step
    project = next((root / "include/projects").iterdir()).name
    words = ["run", pipeline, f"{project}{model}", "--as-of", as_of]
    return start(words, root.parent / "said.txt", PENSTOCK_ROOT=str(root))


def _finish(root: Path, step: tuple[str, str, str]) -> float:
    """Runs a step to its end, as a task is tried again: what a killed try left running may get in its way once."""
    for _ in range(3):
        begin = time.monotonic()
        command = _start(root, step)
        if command.ends(300) == 0:
            return time.monotonic() - begin
    pytest.fail(f"{step}: {command.said[-3000:]}")


def _kill(root: Path, step: tuple[str, str, str], after_seconds: float) -> None:
    command = _start(root, step)
    if command.ends(after_seconds) is None:
        command.kill()


def _table(root: Path, project: str, table: str) -> pd.DataFrame:
    from penstock.lakehouse.small_tables import read

    frame = read(Workspace.open("dev", root).addresses.readable(f"{project}.{table}"))
    frame = frame.drop(columns=[name for name in frame.columns if name in DIFFERS])
    if "reason" in frame:  # it names the project, its folder, and versions of Delta tables
        folder = str(root / "include/projects" / project)
        frame["reason"] = (
            frame["reason"].str.replace(folder, "folder", regex=False)
            .str.replace(rf"{project}\.(\w+)(@\d+)?", r"\1", regex=True)
        )  # fmt: skip
    return frame.sort_values(list(frame.columns), ignore_index=True)
