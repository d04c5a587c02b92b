"""`make bench-features`: the feature store against its references, each turn in this run, as a table and a page.

AREAS chooses among as_of_join, refresh, quality, online (all by default); SCALE shrinks the sizes to try it out, and
then no page is written. LARGE=1 adds the as-of join of 32.7 million rows.
"""

import importlib
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

AREAS = ("as_of_join", "refresh", "quality", "online")
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/benchmarks.md"
PACKAGES = ("pyspark", "delta-spark", "deltalake", "great-expectations", "duckdb", "redis")
COLUMNS = ("work", "Penstock", "reference", "its time", "ratio", "bar", "met", "note")


def main() -> None:
    """Measures and prints; writes the page where everything was measured at full size."""
    console = Console(width=200)
    chosen = [name for name in os.environ.get("AREAS", ",".join(AREAS)).split(",") if name]
    rows: list[tuple[str, ...]] = []
    for name in chosen:
        console.print(f"[bold]{name}[/]")
        for row in importlib.import_module(f"benchmarks.features.{name}").run():
            rows.append(cells(row))
            console.print(" · ".join(rows[-1]))
    table = Table(*COLUMNS, title=about())
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if set(chosen) == set(AREAS) and os.environ.get("SCALE", "1") == "1":
        PAGE.write_text(page(rows), encoding="utf-8")
        console.print(f"wrote {PAGE}")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row's texts, in the order of COLUMNS."""
    ratio = row.get("ratio")
    return (
        row["work"], seconds(row.get("penstock_seconds")), row["reference"], seconds(row.get("reference_seconds")),
        f"{ratio:.2f}" if ratio is not None else "", str(row["bar"]), "yes" if row["met"] else "no",
        row.get("note") or "",
    )  # fmt: skip


def seconds(value: float | None) -> str:
    """Seconds or milliseconds, for people."""
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.2f} ms"


def about() -> str:
    """The versions and the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = psutil.virtual_memory().total / 2**30
    return f"Python {platform.python_version()}, {versions}; {psutil.cpu_count()} cores, {memory:.0f} GiB"


def page(rows: list[tuple[str, ...]]) -> str:
    """The page for docs/."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        "# Benchmarks of the feature store\n\n"
        "Written by `make bench-features`: each figure beside a reference that was measured in the same run.\n"
        f"{about()}.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
