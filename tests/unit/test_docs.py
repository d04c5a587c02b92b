"""The documentation: its DAG works as it stands there, and its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NO_VARIABLES = {"PENSTOCK_MLFLOW", "PENSTOCK_SPARK"}  # ends of AIRFLOW_CONN_..., which are Airflow's
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def test_the_dag_of_ones_own_parses_as_it_stands_in_the_page(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/how-to/operators-in-your-own-dag.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code
    file = tmp_path / "shop.py"
    file.write_text(code[1].replace("\nshop_features()\n", "\nprint(sorted(shop_features().task_ids))\n"))
    answer = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, check=False,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY / "plugins")},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.strip().splitlines()[-1] == "['merge', 'stage', 'validate']"


def test_the_declaration_of_the_page_is_valid(tmp_path: Path) -> None:
    from penstock.spec.project import Project

    page = (REPOSITORY / "docs/how-to/operators-in-your-own-dag.md").read_text()
    code = re.search(r"SHOP = (\{.*?\n\})\n", page, re.S)
    assert code
    assert Project.model_validate(eval(code[1])).feature_tables["customer_daily"].inputs == ["orders"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_every_environment_variable_is_explained() -> None:
    read = "".join(path.read_text() for path in sorted((REPOSITORY / "plugins").rglob("*.py")))
    read += (REPOSITORY / "docker-compose.yaml").read_text()
    told = (REPOSITORY / "docs/reference/variables.md").read_text() + (REPOSITORY / ".env.example").read_text()
    names = {name for name in re.findall(r"\bPENSTOCK_[A-Z]+(?:_[A-Z]+)*\b", read) if name not in NO_VARIABLES}
    assert names - set(re.findall(r"\bPENSTOCK_[A-Z_]+\b", told)) == set()
