"""Helpers: whole refreshes by plain functions, and tables as comparable frames."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable

from penstock.runner import Request, run_pipeline
from penstock.workspace import Workspace

SECOND_ROOT = Path(__file__).resolve().parents[1] / "second_root"
PROJECT = "wind_parks"


def moment(text: str) -> datetime:
    """A UTC moment."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def copy_root(folder: Path) -> Path:
    """A copy of the second project's root that a test may change."""
    return Path(shutil.copytree(SECOND_ROOT, folder / "root"))


def refresh(workspace: Workspace, as_of: str, project: str = PROJECT) -> list[tuple[str, str]]:
    """One feature_refresh. Answers what each step said."""
    said: list[tuple[str, str]] = []
    run_pipeline(
        workspace,
        "feature_refresh",
        Request(project, "", moment(as_of)),
        lambda name, text, _: said.append((name, text)),
    )
    return said


def rows(workspace: Workspace, table: str, keys: list[str], project: str = PROJECT) -> pd.DataFrame:
    """A table's rows, sorted by keys."""
    frame = DeltaTable(workspace.addresses.readable(f"{project}.{table}")).to_pyarrow_table().to_pandas()
    return frame.sort_values(keys, ignore_index=True)


def version(workspace: Workspace, table: str, project: str = PROJECT) -> int:
    """A table's newest version."""
    return DeltaTable(workspace.addresses.readable(f"{project}.{table}")).version()
