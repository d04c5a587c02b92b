"""Each kind of fault in a specification is reported once, with its file, its line and what to write instead.

The faults are in spec_faults.yaml.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.spec.faults import Severity
from tests.unit.spec_project import Root, write_root

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("spec_faults.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return write_root(tmp_path)


def test_a_valid_root_has_no_faults(root: Root) -> None:
    assert root.validate().faults == ()


@pytest.mark.parametrize("case", [pytest.param(case, id=case["fault"]) for case in CASES])
def test_names_file_line_and_remedy(root: Root, case: dict[str, Any]) -> None:
    root.edit(case["file"], case["old"], case["new"])
    faults = root.validate().faults
    found = {fault.message: fault for fault in faults if case["message"] in fault.message}
    assert len(found) == 1, "\n".join(fault.render() for fault in faults)
    (fault,) = found.values()
    file, line = case["at"]
    assert (fault.file, fault.line) == (str(root.file(file)), root.line(file, line))
    assert case["remedy"] in fault.remedy
    assert fault.severity is Severity.ERROR
