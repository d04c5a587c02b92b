"""The version that was registered of a run."""

from penstock.training.runs import TrainingRun


def version_of(run: TrainingRun) -> int | None:
    """The first version that comes from this run; None where it is not registered yet."""
    found = run.client.search_model_versions(f"name = '{run.name}' and run_id = '{run.run.info.run_id}'")
    return min((int(version.version) for version in found), default=None)
