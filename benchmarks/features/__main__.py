"""`make bench-features`: the feature store against its references, each turn in this run, as a table and a page.

AREAS chooses among as_of_join, refresh, quality, online (all by default); SCALE shrinks the sizes to try it out.
LARGE=1 adds the as-of join of 32.7 million rows; a page is written only then, with everything at full size.
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
BOUNDS = """\
What bounds those that miss their bar, with profiles: the as-of join in
[ADR 4](../adr/0004-validity-buckets.md) (Parquet's writer, and code that the JVM compiles anew), the refresh in
[ADR 9](../adr/0009-few-changes-are-found-by-the-task.md) (one Spark query and one merge cost a second, whatever their
size).
"""
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
    whole = set(chosen) == set(AREAS) and os.environ.get("SCALE", "1") == "1" and os.environ.get("LARGE") == "1"
    if whole:
        PAGE.write_text(page(rows), encoding="utf-8")
        console.print(f"wrote {PAGE}")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row's texts, in the order of COLUMNS."""
    ratio = row.get("ratio")
    return (
        row["work"], seconds(row.get("penstock_seconds")), row["reference"], seconds(row.get("reference_seconds")),
        f"{ratio:.2f}" if ratio is not None else "", bar(row["bar"]), "yes" if row["met"] else "no",
        row.get("note") or "",
    )  # fmt: skip


def bar(value: float | str) -> str:
    """A bar, for people."""
    return value if isinstance(value, str) else f"<= {value:.3g}"


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
        "Written by `LARGE=1 make bench-features`: each figure beside a reference that was measured in the same run.\n"
        f"{about()}.\n\n{table}\n\n{BOUNDS}"
    )


if __name__ == "__main__":
    main()
