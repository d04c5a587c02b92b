"""`make bench-rollback` measures what it says, and leaves a stack as it found it."""

from benchmarks.rollback import measure
from penstock.registry.holds import holds
from penstock.registry.promotion import promote
from penstock.registry.stages import current_production
from penstock.workspace import Workspace
from tests.integration.plant import MODEL, SECOND


def test_a_fresh_process_scores_by_the_former_version_and_production_is_put_back(plant, monkeypatch):
    former, newest = plant.add("first"), plant.add("second")
    for version in (former, newest):
        promote(*plant.about, version, "Ann", "to begin with", {}, SECOND)
    environment = plant.workspace.root / "include/environments/dev.yaml"
    environment.write_text(environment.read_text().replace("unused", plant.workspace.environment.lakehouse.root))
    monkeypatch.setenv("PENSTOCK_ROOT", str(plant.workspace.root))
    found = measure(Workspace.open(), f"{plant.project}.{MODEL}")
    assert (found["from_version"], found["to_version"]) == (newest, former)
    assert 0 < found["command_seconds"] < found["effect_seconds"]
    assert current_production(*plant.about) == newest
    assert holds(*plant.about).rolled_back == {}
